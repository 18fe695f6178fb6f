/**
 * A coordinator small enough to see through: a real Socket.IO server on a real port that speaks the protocol, hands out
 * the leases it was given in order, and folds nothing. A test may step in at any message: refuse it, or cut the
 * connection before or after it was dealt with.
 */
import { createHash } from 'node:crypto'
import { createServer, type Server as HttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Server, type Socket } from 'socket.io'
import {
  EVENTS,
  type EventName,
  type HelloRequest,
  type Lease,
  type Refusal,
  type RequestOf,
  refuse,
  type Start,
  type UpdateRequest,
} from '../../shared/protocol.ts'
import { Incoming } from '../../shared/transfer.ts'

type Intervention = 'cut-before' | 'cut-after' | Refusal | undefined

interface Logged {
  event: EventName
  // biome-ignore lint/suspicious/noExplicitAny: a test knows what it asked for.
  request: any
}

export interface Update extends UpdateRequest {
  bytes: Uint8Array
}

export class WireCoordinator {
  readonly log: Logged[] = []
  readonly hellos: HelloRequest[] = []
  readonly updates: Update[] = []
  readonly givenBack: string[] = []
  readonly blobs = new Map<string, Uint8Array>()
  readonly versions = new Map<string, Uint8Array>()
  /** Leases still to be granted. */
  readonly leases: Lease[] = []
  /** What a start says beside its lease. */
  startOf: (lease: string) => Partial<Start> = () => ({})
  /** Asked at every message, with how often this event has come. */
  intervene: (event: EventName, request: never, count: number) => Intervention = () => undefined
  /** What a message waits for before it is dealt with. */
  // biome-ignore lint/suspicious/noExplicitAny: a test knows what it asked for.
  hold: (event: EventName, request: any) => Promise<void> | undefined = () => undefined
  /** What its answer waits for. */
  holdAnswer: (event: EventName) => Promise<void> | undefined = () => undefined
  blobAddress: string | null = null
  /** The most downloads that were unanswered at once. */
  mostDownloads = 0
  private downloads = 0
  private readonly http: HttpServer
  private readonly io: Server
  private readonly started = new Set<string>()
  private readonly settled = new Set<string>()
  private readonly uploads = new Map<string, { update: UpdateRequest; incoming: Incoming }>()
  private parked: ((reply: unknown) => void)[] = []
  private waiting: { until: () => boolean; resolve: () => void }[] = []

  private constructor() {
    this.http = createServer()
    this.io = new Server(this.http, { transports: ['websocket'], serveClient: false })
    this.io.on('connection', (socket) => this.connected(socket))
  }

  static async listen(port = 0): Promise<WireCoordinator> {
    const coordinator = new WireCoordinator()
    await new Promise<void>((resolve) => coordinator.http.listen(port, '127.0.0.1', resolve))
    return coordinator
  }

  get port(): number {
    return (this.http.address() as AddressInfo).port
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  async close(): Promise<void> {
    await this.io.close()
  }

  putBlob(bytes: Uint8Array): string {
    const hash = sha256(bytes)
    this.blobs.set(hash, bytes)
    return hash
  }

  putVersion(run: string, version: number, bytes: Uint8Array): void {
    this.versions.set(`${run} ${version}`, bytes)
  }

  grant(...leases: Lease[]): void {
    this.leases.push(...leases)
    for (const answer of this.parked.splice(0)) void this.lease().then(answer)
  }

  /** Resolves once this is true, looked at after every message and before every answer. */
  until(reached: () => boolean): Promise<void> {
    if (reached()) return Promise.resolve()
    return new Promise((resolve) => this.waiting.push({ until: reached, resolve }))
  }

  events(): string[] {
    return this.log.map(({ event }) => event)
  }

  emit(event: 'refused' | 'progress', message: unknown): void {
    this.io.emit(event, message)
  }

  cutAll(): void {
    this.io.disconnectSockets(true)
  }

  private connected(socket: Socket): void {
    for (const event of Object.keys(EVENTS) as EventName[]) {
      socket.on(event as string, (message: unknown, acknowledge: (reply: unknown) => void) => {
        const request = EVENTS[event].request.parse(message)
        this.log.push({ event, request })
        const count = this.log.filter((logged) => logged.event === event).length
        const intervention = this.intervene(event, request as never, count)
        const answer = (reply: unknown) => {
          this.look()
          if (intervention === 'cut-after') socket.disconnect(true)
          else acknowledge(reply)
        }
        if (intervention === 'cut-before') socket.disconnect(true)
        else if (typeof intervention === 'object') acknowledge(intervention)
        else {
          const held = this.hold(event, request) ?? Promise.resolve()
          const replied = held.then(() => this.replies[event](request as never))
          void replied.then(async (reply) => {
            await this.holdAnswer(event)
            answer(reply)
          })
        }
        this.look()
      })
    }
  }

  private look(): void {
    this.waiting = this.waiting.filter(({ until, resolve }) => {
      if (!until()) return true
      resolve()
      return false
    })
  }

  private readonly replies: { [E in EventName]: (request: RequestOf<E>) => Promise<unknown> } = {
    hello: (request) => this.hello(request),
    lease: () => this.lease(),
    start: (request) => this.start(request),
    download: (request) => this.download(request),
    update: (request) => this.update(request),
    chunk: (request) => this.chunk(request),
    finish: (request) => this.finish(request),
    giveBack: (request) => this.giveBack(request),
  }

  private async hello(request: RequestOf<'hello'>): Promise<unknown> {
    this.hellos.push(request)
    return { ok: true, volunteer: 'v1', token: 'token-1', trusted: false, blobAddress: this.blobAddress }
  }

  private lease(): Promise<unknown> {
    const lease = this.leases.shift()
    if (lease) return Promise.resolve({ ok: true, lease })
    return new Promise((resolve) => this.parked.push(resolve))
  }

  private async start({ lease }: RequestOf<'start'>): Promise<unknown> {
    return { ok: true, start: this.startFor(lease) }
  }

  private startFor(lease: string): Start {
    this.started.add(lease)
    return { lease, version: 0, localRate: 0, continues: null, deadlineMs: 60_000, ...this.startOf(lease) }
  }

  /** Answers a moment later, so that requests that are under way together can be counted. */
  private async download({ blob, offset, length }: RequestOf<'download'>): Promise<unknown> {
    const bytes = 'hash' in blob ? this.blobs.get(blob.hash) : this.versions.get(`${blob.run} ${blob.version}`)
    if (!bytes) return refuse('blob-unknown', 'there is no such blob')
    if (offset >= bytes.length) return refuse('malformed', 'asked from beyond the end')
    this.mostDownloads = Math.max(this.mostDownloads, ++this.downloads)
    await new Promise((resolve) => setTimeout(resolve, 2))
    this.downloads--
    const hash = 'hash' in blob ? blob.hash : sha256(bytes)
    return { ok: true, size: bytes.length, hash, bytes: bytes.subarray(offset, offset + length) }
  }

  private async update(request: RequestOf<'update'>): Promise<unknown> {
    const { lease, payload, size, next } = request
    if (this.settled.has(lease)) return refuse('lease-settled', 'it settles at most once')
    if (!this.started.has(lease)) return refuse('lease-not-started', 'it was not started')
    if (payload || size === 0) return this.settle({ ...request, bytes: payload ?? new Uint8Array() }, next)
    const upload = this.uploads.get(lease) ?? { update: request, incoming: new Incoming(size) }
    this.uploads.set(lease, upload)
    return { ok: true, verdict: 'send', offset: upload.incoming.received }
  }

  private async chunk({ lease, offset, bytes }: RequestOf<'chunk'>): Promise<unknown> {
    const taken = this.uploads.get(lease)?.incoming.take(offset, bytes)
    if (!taken) return refuse('transfer-unknown', 'announce it first')
    return taken.ok ? { ok: true, received: taken.received } : refuse(taken.code, taken.message, 0)
  }

  private async finish({ lease, next }: RequestOf<'finish'>): Promise<unknown> {
    const upload = this.uploads.get(lease)
    if (!upload) return refuse('transfer-unknown', 'announce it first')
    // What was sent before it may have been cut off.
    if (!upload.incoming.complete) return refuse('transfer-out-of-order', 'bytes are missing')
    return this.settle({ ...upload.update, bytes: upload.incoming.bytes() }, next)
  }

  private settle(update: Update, next: string | undefined): unknown {
    this.settled.add(update.lease)
    this.updates.push(update)
    const start = next === undefined ? {} : { start: this.startFor(next) }
    return { ok: true, verdict: 'accepted', version: update.version + 1, staleness: 0, ...start }
  }

  private async giveBack({ lease }: RequestOf<'giveBack'>): Promise<unknown> {
    this.givenBack.push(lease)
    return { ok: true }
  }
}

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
