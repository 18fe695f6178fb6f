/**
 * Live events for consoles as server-sent events (text/event-stream): one stream an open console. A console that
 * reads slower than events come is cut off and comes back for a fresh start; it never fills our memory.
 */
import type { FastifyReply } from 'fastify'
import type { LiveEvent } from '../../shared/api.ts'

/** Bytes that may wait unsent for one console. */
const BACKLOG_MAX = 4 * 1024 * 1024
/** A comment line so often keeps proxies from ending a quiet stream. */
const KEEP_ALIVE_MS = 15_000
export const CONSOLES_MAX = 64

export class Events {
  private readonly consoles = new Set<FastifyReply>()
  private aliveAt = 0

  /** Takes the reply over; false when too many consoles are open. */
  open(reply: FastifyReply): boolean {
    if (this.consoles.size >= CONSOLES_MAX) return false
    reply.hijack()
    for (const [name, value] of Object.entries(reply.getHeaders()))
      if (value !== undefined) reply.raw.setHeader(name, value)
    reply.raw.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    })
    reply.raw.write(': crowdgrad\n\n')
    this.consoles.add(reply)
    reply.raw.on('close', () => this.consoles.delete(reply))
    return true
  }

  get size(): number {
    return this.consoles.size
  }

  send(event: LiveEvent): void {
    if (this.consoles.size === 0) return
    this.write(`data: ${JSON.stringify(event)}\n\n`)
  }

  tick(now: number): void {
    if (now - this.aliveAt < KEEP_ALIVE_MS) return
    this.aliveAt = now
    this.write(': alive\n\n')
  }

  close(): void {
    for (const { raw } of this.consoles) raw.end()
  }

  private write(text: string): void {
    for (const { raw } of this.consoles) {
      if (raw.writableLength > BACKLOG_MAX) raw.destroy()
      else raw.write(text)
    }
  }
}
