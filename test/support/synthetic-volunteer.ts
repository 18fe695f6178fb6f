/**
 * A volunteer that speaks the protocol and computes nothing: it sends made-up (or given) updates, and remembers what
 * it was answered. For flow tests and benches.
 *
 *     const volunteer = await SyntheticVolunteer.join(url, { run })
 *     await volunteer.work(10)                      // ten leases, each accepted
 *     const { lease, start } = await volunteer.begin()
 *     await volunteer.ask('update', { ...volunteer.update(lease, start), size: 3 })   // a refusal comes back as a value
 */
import { randomBytes } from 'node:crypto'
import { io, type Socket } from 'socket.io-client'
import { codecs, encodeVector } from '../../shared/codec.ts'
import type { Model } from '../../shared/models.ts'
import {
  type AnswerOf,
  CHUNK_BYTES,
  type EventName,
  type HelloRequest,
  type Lease,
  PROTOCOL_VERSION,
  type Refusal,
  type Reply,
  type Start,
  type UpdateRequest,
  type Verdict,
  type Welcome,
} from '../../shared/protocol.ts'

const ANSWER_WITHIN_MS = 15_000

interface SyntheticOptions {
  run?: string
  token?: string
  instance?: string
  trustKey?: string
  /** The update's vector; by default small numbers that differ from lease to lease. */
  gradient?: (lease: Lease, start: Start, size: number) => Float32Array
}

/** The answer was a refusal where an acceptance was expected. */
export class UnexpectedRefusal extends Error {
  readonly refusal: Refusal
  constructor(event: string, refusal: Refusal) {
    super(`${event} was refused: ${refusal.code}: ${refusal.message}`)
    this.refusal = refusal
  }
}

export interface Acknowledged {
  readonly lease: string
  readonly version: number
  readonly examples: number
  readonly payload: Uint8Array
}

export class SyntheticVolunteer {
  readonly socket: Socket
  readonly welcome: Welcome
  /** Updates that were accepted, in the order of their answers. */
  readonly acknowledged: Acknowledged[] = []
  /** `refused` messages: what nobody asked an answer for. */
  readonly refusals: Refusal[] = []
  /** Why the connection ended, where it did. */
  readonly disconnects: string[] = []
  private readonly options: SyntheticOptions
  private readonly models = new Map<string, Model>()
  private closing = false

  private constructor(socket: Socket, welcome: Welcome, options: SyntheticOptions) {
    this.socket = socket
    this.welcome = welcome
    this.options = options
    socket.on('refused', (refusal: Refusal) => this.refusals.push(refusal))
    socket.on('disconnect', (reason) => {
      if (!this.closing) this.disconnects.push(reason)
    })
  }

  static async join(url: string, options: SyntheticOptions = {}): Promise<SyntheticVolunteer> {
    const socket = await connect(url)
    const reply = await ask(socket, 'hello', introduction(options))
    if (!reply.ok) {
      socket.disconnect()
      throw new UnexpectedRefusal('hello', reply)
    }
    return new SyntheticVolunteer(socket, reply, options)
  }

  /** Asks anything, right or wrong; the answer as it came. */
  ask<E extends EventName>(event: E, message: unknown): Promise<Reply<AnswerOf<E>>> {
    return ask(this.socket, event, message)
  }

  /** The next lease; waits until there is one. */
  async lease(): Promise<Lease> {
    for (;;) {
      const reply = expectOk('lease', await this.ask('lease', {}))
      if ('lease' in reply) return reply.lease
    }
  }

  async start(lease: Lease): Promise<Start> {
    return expectOk('start', await this.ask('start', { lease: lease.id })).start
  }

  async begin(): Promise<{ lease: Lease; start: Start }> {
    const lease = await this.lease()
    await this.model(lease)
    return { lease, start: await this.start(lease) }
  }

  /** What an honest volunteer would say of the whole lease, without the payload. */
  update(lease: Lease, start: Start): UpdateRequest {
    const examples = examplesOf(lease)
    const evaluation = lease.kind === 'evaluate'
    return {
      lease: lease.id,
      version: start.version,
      minibatches: evaluation ? 0 : Math.ceil(examples / lease.batchSize),
      examples,
      lossSum: examples,
      correct: Math.floor(examples / 2),
      computeMs: 1,
      size: this.payload(lease, start).length,
    }
  }

  /** Sends the update of a started lease, in one piece or in chunks as its size wants; the last answer. */
  async send(lease: Lease, start: Start, payload = this.payload(lease, start)): Promise<Reply<Verdict>> {
    const update = this.update(lease, start)
    const inline = payload.length > 0 && payload.length <= CHUNK_BYTES ? { payload } : {}
    let verdict = await this.ask('update', { ...update, size: payload.length, ...inline })
    if (verdict.ok && verdict.verdict === 'send') {
      for (let offset = verdict.offset; offset < payload.length; offset += CHUNK_BYTES) {
        const bytes = payload.subarray(offset, offset + CHUNK_BYTES)
        const taken = await this.ask('chunk', { lease: lease.id, offset, bytes })
        if (!taken.ok) return taken
      }
      verdict = await this.ask('finish', { lease: lease.id })
    }
    if (verdict.ok && verdict.verdict === 'accepted') {
      this.acknowledged.push({ lease: lease.id, version: verdict.version, examples: update.examples, payload })
    }
    return verdict
  }

  /** Takes and finishes so many leases; throws where one is refused. */
  async work(leases: number): Promise<void> {
    for (let i = 0; i < leases; i++) {
      const { lease, start } = await this.begin()
      expectOk('update', await this.send(lease, start))
    }
  }

  payload(lease: Lease, start: Start): Uint8Array {
    if (lease.kind === 'evaluate') return new Uint8Array(0)
    const model = this.models.get(lease.model)
    if (model === undefined) throw new Error('the lease was not begun by this volunteer')
    const make = this.options.gradient ?? madeUpGradient
    return encodeVector(codecs[lease.codec], make(lease, start, model.layout.size))
  }

  /** The model that a lease names, downloaded once. */
  async model(lease: Lease): Promise<Model> {
    let model = this.models.get(lease.model)
    if (model === undefined) {
      const bytes = await this.download({ hash: lease.model })
      model = JSON.parse(new TextDecoder().decode(bytes)) as Model
      this.models.set(lease.model, model)
    }
    return model
  }

  async download(blob: { hash: string } | { run: string; version: number }): Promise<Buffer> {
    const parts: Uint8Array[] = []
    for (let offset = 0; ; ) {
      const { bytes, size } = expectOk('download', await this.ask('download', { blob, offset, length: CHUNK_BYTES }))
      parts.push(bytes)
      offset += bytes.length
      if (offset >= size) return Buffer.concat(parts)
    }
  }

  close(): void {
    this.closing = true
    this.socket.disconnect()
  }
}

export const examplesOf = ({ segments }: Lease): number => segments.reduce((sum, { from, to }) => sum + to - from, 0)

export function introduction({ run, token, instance, trustKey }: SyntheticOptions = {}): HelloRequest {
  return {
    protocol: PROTOCOL_VERSION,
    instance: instance ?? randomBytes(8).toString('hex'),
    backend: 'cpu',
    device: 'synthetic',
    ...(run === undefined ? {} : { run }),
    ...(token === undefined ? {} : { token }),
    ...(trustKey === undefined ? {} : { trustKey }),
  }
}

/** A connection that has said nothing yet. */
export function connect(url: string): Promise<Socket> {
  const socket = io(url, { transports: ['websocket'], reconnection: false, forceNew: true })
  return new Promise((resolve, reject) => {
    socket.once('connect', () => resolve(socket))
    socket.once('connect_error', (error) => {
      socket.close()
      reject(error)
    })
  })
}

export async function ask<E extends EventName>(
  socket: Socket,
  event: E,
  message: unknown,
): Promise<Reply<AnswerOf<E>>> {
  return (await socket.timeout(ANSWER_WITHIN_MS).emitWithAck(event, message)) as Reply<AnswerOf<E>>
}

export function expectOk<T>(event: string, reply: Reply<T>): { ok: true } & T {
  if (!reply.ok) throw new UnexpectedRefusal(event, reply)
  return reply
}

/** Different for every lease, the same for one lease, short as a gradient is. */
function madeUpGradient(lease: Lease, _start: Start, size: number): Float32Array {
  const { epoch, from } = lease.segments[0]
  const phase = 1 + ((31 * epoch + from) % 97)
  return Float32Array.from({ length: size }, (_, i) => ((((i + 1) * phase) % 41) - 20) / 4000)
}
