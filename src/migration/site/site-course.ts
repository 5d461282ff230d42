// A course of this site, on either side of its migration: `role` tells which.

import type { DestinationCourse } from '../destination/destination-course.ts'
import type { SourceCourse } from '../source/source-course.ts'

export type SiteCourse = SourceCourse | DestinationCourse
