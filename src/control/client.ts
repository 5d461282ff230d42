// A command's way to its daemon: a method for each route of the table, under the route's name. It takes the parameters of
// the path, then the body, then a signal; it gives the document, or the events up to `result`. Every failure is a
// ControlError with a sentence, that which an `error` event brings too, so that a caller handles errors in one place.

import { ControlConnection } from './connection.ts'
import { type AnyRoute, type BodyOf, type ContentOf, eachRoute, type ParametersOf, parameterNames } from './routes.ts'
import type { MigrationEvent } from './types.ts'

type Told<Event> = Exclude<Event, { type: 'error' }>
export type ToldMigrationEvent = Told<MigrationEvent>

/** A body of which nothing is required may be left out. */
type Body<Content> = Content extends undefined ? [] : object extends Content ? [body?: Content] : [body: Content]

type Method<One extends AnyRoute> = (
  ...asked: [...ParametersOf<One['path']>, ...Body<BodyOf<One>>, signal?: AbortSignal]
) => One['answer']['kind'] extends 'events' ? AsyncGenerator<Told<ContentOf<One>>> : Promise<ContentOf<One>>

type Methods = { [One in AnyRoute as One['name']]: Method<One> }

/** `ControlConnection` with the methods of the table. */
function withMethods(): new (path: string) => ControlConnection & Methods {
  class Client extends ControlConnection {}
  for (const { route } of eachRoute()) {
    const count = parameterNames(route).length
    const method = function (this: Client, ...asked: unknown[]) {
      const [body, signal] = route.body ? [asked[count] ?? {}, asked[count + 1]] : [undefined, asked[count]]
      const question = {
        route,
        parameters: asked.slice(0, count) as string[],
        body: body as object | undefined,
        signal: signal as AbortSignal | undefined,
      }
      return route.answer.kind === 'document' ? this.ask(question) : this.listen(question)
    }
    Object.defineProperty(Client.prototype, route.name, { value: method })
  }
  return Client as unknown as new (
    path: string,
  ) => ControlConnection & Methods
}

export class ControlClient extends withMethods() {}
