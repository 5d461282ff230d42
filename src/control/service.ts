// What the control server needs of the daemon: for each route of the table a method that answers it. Errors it throws carry
// the fields of ErrorView.

import type { CheckedBodyOf, ContentOf, ParametersOf, Routes } from './routes.ts'

export type Service = { readonly [Group in keyof Routes]: ServiceOf<Group> }

/** The methods of one group. */
export type ServiceOf<Group extends keyof Routes> = {
  [Key in keyof Routes[Group]]: Method<Routes[Group][Key]>
}

type Method<One> = One extends { readonly path: infer Path; readonly answer: { readonly kind: infer Kind } }
  ? (
      ...asked: [...ParametersOf<Path>, ...Body<CheckedBodyOf<One>>, signal: AbortSignal]
    ) => Answered<Kind, ContentOf<One>>
  : never

type Body<Content> = Content extends undefined ? [] : [body: Content]

/** The signal aborts when whoever asked has gone away, or the server closes; a stream that does not heed it is ended too. */
type Answered<Kind, Content> = Kind extends 'events' ? AsyncIterable<Content> : Content | Promise<Content>
