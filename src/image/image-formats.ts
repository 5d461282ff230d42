// The formats of disk images that vmstore takes, by the names that commands and scripts use.

export const imageFormats = ['raw', 'qcow2', 'qcow', 'qed', 'vmdk', 'vdi', 'vhd', 'vhdx', 'parallels'] as const
export type ImageFormat = (typeof imageFormats)[number]
/** Those that QEMU reads for us. */
export type ForeignFormat = Exclude<ImageFormat, 'raw'>

interface FormatNames {
  /** As people know it. */
  readonly title: string
  /** QEMU's name for its driver. */
  readonly driver: string
}

export const formatNames: Readonly<Record<ForeignFormat, FormatNames>> = {
  qcow2: { title: 'qcow2', driver: 'qcow2' },
  qcow: { title: 'qcow', driver: 'qcow' },
  qed: { title: 'QED', driver: 'qed' },
  vmdk: { title: 'VMDK', driver: 'vmdk' },
  vdi: { title: 'VDI', driver: 'vdi' },
  vhd: { title: 'VHD', driver: 'vpc' },
  vhdx: { title: 'VHDX', driver: 'vhdx' },
  parallels: { title: 'Parallels', driver: 'parallels' },
}

/** 'a qcow2 image'. */
export function titled(format: ImageFormat): string {
  return format === 'raw' ? 'a raw image' : `a ${formatNames[format].title} image`
}
