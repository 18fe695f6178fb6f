/**
 * One Socket.IO connection to a coordinator, typed: what is asked and what is answered are those of the protocol.
 *
 * It promises that every `ask` ends: with an answer that its schema has parsed, with `Refused` (the coordinator said
 * no, and what to do next), or with `ConnectionLost` (cut off, no answer in time, or an answer that is none). After
 * `ConnectionLost` the connection is closed for good; coming back is the session's business.
 */
import { io, type Socket } from 'socket.io-client'
import {
  type AnswerOf,
  EVENTS,
  type EventName,
  type Progress,
  progress,
  type Refusal,
  type RequestOf,
  refusal,
} from '../../shared/protocol.ts'

/** The first chunks take 26 s at 10 kB/s, a slow disk some seconds: past this the other end is gone. */
export const ANSWER_WITHIN_MS = 60_000
const CONNECT_WITHIN_MS = 20_000

export class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost'
}

export class Refused extends Error {
  override readonly name = 'Refused'
  readonly refusal: Refusal

  constructor(refusal: Refusal) {
    super(refusal.message)
    this.refusal = refusal
  }
}

export interface ConnectionEvents {
  /** Called once, however the connection ended; not when we closed it ourselves. */
  lost(reason: string): void
  progress(progress: Progress): void
  /** A refusal of something that nobody asked an answer for. */
  refused(refusal: Refusal): void
}

export class Connection {
  private readonly socket: Socket
  private readonly events: ConnectionEvents
  private ended = false

  private constructor(socket: Socket, events: ConnectionEvents) {
    this.socket = socket
    this.events = events
    socket.on('disconnect', (reason) => this.end(reason))
    socket.on('progress', (value) => {
      const parsed = progress.safeParse(value)
      if (parsed.success) events.progress(parsed.data)
    })
    socket.on('refused', (value) => {
      const parsed = refusal.safeParse(value)
      if (parsed.success) events.refused(parsed.data)
    })
  }

  /** Fails with ConnectionLost where nobody answers, or when `stopping` is aborted meanwhile. */
  static open(address: string, events: ConnectionEvents, stopping: AbortSignal): Promise<Connection> {
    stopping.throwIfAborted()
    // The address's path would be taken for a Socket.IO namespace.
    const socket = io(new URL(address).origin, {
      transports: ['websocket'],
      reconnection: false,
      forceNew: true,
      timeout: CONNECT_WITHIN_MS,
    })
    return new Promise((resolve, reject) => {
      const failed = (error?: Error) => {
        stopping.removeEventListener('abort', stopped)
        socket.close()
        reject(new ConnectionLost(`cannot reach ${address}: ${error?.message ?? 'closed'}`))
      }
      const stopped = () => failed()
      stopping.addEventListener('abort', stopped)
      socket.once('connect_error', failed)
      socket.once('connect', () => {
        stopping.removeEventListener('abort', stopped)
        resolve(new Connection(socket, events))
      })
    })
  }

  async ask<E extends EventName>(event: E, request: RequestOf<E>, withinMs = ANSWER_WITHIN_MS): Promise<AnswerOf<E>> {
    // Socket.IO would keep it for a reconnection that we do not let it make.
    if (!this.socket.connected) throw new ConnectionLost(`not connected: ${event} was not sent`)
    let reply: unknown
    try {
      reply = await this.socket.timeout(withinMs).emitWithAck(event, request)
    } catch (error) {
      throw this.broken(`no answer to ${event}: ${(error as Error).message}`)
    }
    const refused = refusal.safeParse(reply)
    if (refused.success) throw new Refused(refused.data)
    const answer = EVENTS[event].answer.safeParse(withByteViews(reply))
    if (!answer.success) throw this.broken(`not an answer to ${event}: ${answer.error.issues[0]?.message}`)
    return answer.data as AnswerOf<E>
  }

  close(): void {
    this.ended = true
    this.socket.close()
  }

  private broken(reason: string): ConnectionLost {
    this.end(reason)
    return new ConnectionLost(reason)
  }

  private end(reason: string): void {
    if (this.ended) return
    this.close()
    this.events.lost(reason)
  }
}

/** Browsers deliver binary attachments as ArrayBuffer, Node as Buffer; the schemas want a Uint8Array. */
function withByteViews(reply: unknown): unknown {
  if (typeof reply !== 'object' || reply === null) return reply
  return Object.fromEntries(
    Object.entries(reply).map(([key, value]) => [key, value instanceof ArrayBuffer ? new Uint8Array(value) : value]),
  )
}
