/**
 * Volunteers' sockets: parse → runs → answer. Decides nothing about training. What it promises: every request gets
 * one answer, a refusal names what was wrong, a broken promise of our own ends that connection and no other, and
 * nobody can make it hold more than the bounds below.
 */
import { createHash } from 'node:crypto'
import type { Logger } from 'pino'
import type { Server, Socket } from 'socket.io'
import {
  type AnswerOf,
  CHUNK_BYTES,
  CHUNK_MOST_BYTES,
  type DownloadRequest,
  EVENTS,
  type EventName,
  type HelloRequest,
  isRefusal,
  PROTOCOL_VERSION,
  type Progress,
  type Refusal,
  type RequestOf,
  refuse,
  type UpdateRequest,
  type Verdict,
} from '../../shared/protocol.ts'
import type { Run } from '../run/run.ts'
import type { Runs } from '../run/runs.ts'
import { type Identities, sameSecret } from './identities.ts'
import { JUNK_EVENT } from './parser.ts'
import { Uploads } from './uploads.ts'

/**
 * Updates that came together are taken one after the other, so many in a turn, and their senders answered: the vectors
 * that they are folded into stay in the processor's caches, and sockets are served between turns.
 */
const UPDATES_A_TURN = 32
/** A volunteer has two updates under way at most, and may send one of them again. */
const UPDATES_WAITING = 8
const UPDATES_RETRY_MS = 500
/** A lease request that finds no work is answered after at most so long; work that appears answers it at once. */
const PARK_MS = 8_000
/** Malformed messages a connection may send before it is ended. */
const MALFORMED_MAX = 100
/**
 * Frames that may wait before downloads are put off: of four transfers, seven chunks at most in a window, two frames
 * each.
 */
const SEND_QUEUE_MAX = 64
const SEND_QUEUE_RETRY_MS = 500
/** Who lets so many answers wait unread is cut off. Transfers' windows are many times smaller. */
const UNREAD_MAX = 4_096
/** Characters of a refusal's message that were the sender's own words. */
const QUOTED_MAX = 200

interface VolunteersOptions {
  readonly runs: Runs
  readonly identities: Identities
  /** Who shows it at hello is trusted: the coordinator's own volunteer. */
  readonly trustKey: string
  /** Where a CDN serves blobs; null: over the socket. */
  readonly blobAddress: string | null
  readonly now: () => number
  readonly log: Logger
}

interface Session {
  readonly socket: Socket
  volunteer: string | null
  malformed: number
  /** Its updates that wait for their turn. */
  updates: number
  /** The progress it was told last. */
  told: string | null
}
type Answer<E extends EventName> = (reply: AnswerOf<E> | Refusal) => void
/** Of one connection. */
type Handler<E extends EventName> = (request: RequestOf<E>, answer: Answer<E>) => void

export class Volunteers {
  private readonly options: VolunteersOptions
  private readonly sessions = new Map<string, Session>()
  private readonly uploads = new Uploads()
  private readonly parked = new Map<string, { session: Session; answer: Answer<'lease'>; until: number }>()
  /** Whole updates that are to be taken. */
  private readonly updates: (() => void)[] = []
  /** Work may have appeared since those who wait for some were asked about. */
  private called = false
  private turn: NodeJS.Immediate | null = null
  private readonly hashes = new WeakMap<Uint8Array, string>()
  /** Refusals sent, by code, for /metrics. */
  readonly refusals = new Map<string, number>()

  constructor(io: Server, options: VolunteersOptions) {
    this.options = options
    io.on('connection', (socket) => this.connected(socket))
  }

  get connections(): number {
    return this.sessions.size
  }

  /** Work may have appeared: those who wait for a lease are asked about again soon. */
  work(): void {
    this.called = true
    this.turnSoon()
  }

  private turnSoon(): void {
    this.turn ??= setImmediate(() => this.takeTurn())
  }

  private takeTurn(): void {
    this.turn = null
    for (const take of this.updates.splice(0, UPDATES_A_TURN)) take()
    if (this.called) this.callWaiting()
    if (this.updates.length > 0) this.turnSoon()
  }

  private callWaiting(): void {
    this.called = false
    for (const [volunteer, { session, answer }] of this.parked) {
      this.guarded(session, 'lease', answer, () => {
        const reply = this.options.runs.lease(volunteer, this.options.now())
        if ('waitMs' in reply) return
        this.parked.delete(volunteer)
        answer(reply)
      })
    }
  }

  /** Once a second: answers those who waited long enough, forgets dead uploads, tells how the runs go. */
  tick(now: number): void {
    this.uploads.expire(now)
    for (const [volunteer, { session, answer, until }] of this.parked) {
      if (until > now) continue
      this.parked.delete(volunteer)
      this.guarded(session, 'lease', answer, () => answer(this.options.runs.lease(volunteer, now)))
    }
    this.tellProgress()
  }

  private connected(socket: Socket): void {
    const session: Session = { socket, volunteer: null, malformed: 0, updates: 0, told: null }
    const { log, runs, now } = this.options
    /** Wires an event that only who said hello may send. */
    const on = <E extends EventName>(
      event: E,
      handler: (volunteer: string, request: RequestOf<E>, answer: Answer<E>) => void,
    ) =>
      this.on(session, event, (request, answer) => {
        if (session.volunteer === null) return answer(refuse('hello-first', `say hello before "${event}"`))
        handler(session.volunteer, request, answer)
      })
    this.on(session, 'hello', (request, answer) => this.hello(session, request, answer))
    on('lease', (volunteer, _request, answer) => this.lease(session, volunteer, answer))
    on('download', (volunteer, request, answer) => answer(this.download(socket, volunteer, request)))
    on('start', (volunteer, { lease }, answer) => {
      const start = runs.start(volunteer, lease, now())
      answer(isRefusal(start) ? start : { ok: true, start })
    })
    on('update', (volunteer, request, answer) => this.update(session, volunteer, request, answer))
    on('chunk', (volunteer, { lease, offset, bytes }, answer) => {
      if (bytes.length > CHUNK_MOST_BYTES)
        return answer(refuse('too-large', `a chunk is at most ${CHUNK_MOST_BYTES} bytes, got ${bytes.length}`))
      const reply = this.uploads.chunk(volunteer, lease, offset, bytes, now())
      const ended = reply.ok ? runs.uploading(volunteer, lease, now()) : null
      if (ended !== null) this.uploads.close(volunteer, lease)
      answer(ended ?? reply)
    })
    on('finish', (volunteer, { lease, next }, answer) => {
      const finished = this.uploads.finish(volunteer, lease)
      if (isRefusal(finished)) return answer(finished)
      this.submit(session, volunteer, { ...finished.update, next }, finished.payload, answer)
    })
    on('giveBack', (volunteer, request, answer) => answer(runs.giveBack(volunteer, request)))
    socket.use(([event, ...args], next) => {
      if (queued(socket) > UNREAD_MAX) {
        log.info({ volunteer: session.volunteer }, 'a volunteer asks without reading the answers')
        // Without waiting for what is queued to be read: it never would be.
        socket.conn.close(true)
      } else if (event === JUNK_EVENT) {
        this.unasked(session, refuse('junk-frame', 'expected a Socket.IO packet, got a frame that is none'), args)
      } else if (!Object.hasOwn(EVENTS, event)) {
        // A packet may lack its name, or have a number for one.
        const said = String(event)
        const name = said.length > 40 ? `${said.slice(0, 40)}… (${said.length} characters)` : said
        this.unasked(session, refuse('malformed', `there is no message "${name}"`), args)
      } else next()
    })
    socket.on('disconnect', (reason) => {
      const { volunteer } = session
      if (volunteer === null || this.sessions.get(volunteer) !== session) return
      this.sessions.delete(volunteer)
      this.parked.delete(volunteer)
      this.options.runs.bye(volunteer, this.options.now())
      log.info({ volunteer, reason }, 'volunteer gone')
    })
  }

  /** Wires one event: schema, one answer, and our own faults kept to this connection. */
  private on<E extends EventName>(session: Session, event: E, handler: Handler<E>): void {
    session.socket.on(event as string, (...args: unknown[]) => {
      const [message, acknowledge] = args
      if (args.length !== 2 || typeof acknowledge !== 'function') {
        const wants = args.length === 1 && typeof message !== 'function' ? '' : 'one message and '
        return this.unasked(session, refuse('malformed', `"${event}" wants ${wants}an acknowledgement`), args)
      }
      const answer: Answer<E> = (reply) => {
        if (isRefusal(reply)) this.count(reply)
        acknowledge(reply)
      }
      const parsed = EVENTS[event].request.safeParse(message)
      if (!parsed.success) {
        const { path, message: problem } = parsed.error.issues[0]
        const where = path.length === 0 ? '' : `, field ${path.join('.')}`
        answer(refuse('malformed', `"${event}"${where}: ${problem.slice(0, QUOTED_MAX)}`))
        return this.tolerate(session)
      }
      this.guarded(session, event, answer, () => handler(parsed.data as RequestOf<E>, answer))
    })
  }

  /** A broken promise of our own ends the connection that met it, and no other. */
  private guarded(session: Session, event: EventName, answer: (refusal: Refusal) => void, work: () => void): void {
    try {
      work()
    } catch (error) {
      this.options.log.error(
        { err: error, event, volunteer: session.volunteer },
        'invariant broken while answering a volunteer',
      )
      answer(refuse('internal', 'the coordinator made a mistake; the connection ends, come back', 1_000))
      session.socket.disconnect(true)
    }
  }

  private hello(session: Session, request: HelloRequest, answer: Answer<'hello'>): void {
    const { runs, identities, now, trustKey, blobAddress, log } = this.options
    if (request.protocol !== PROTOCOL_VERSION) {
      return answer(
        refuse(
          'protocol-version',
          `this coordinator speaks version ${PROTOCOL_VERSION}, got ${request.protocol}; reload the page`,
        ),
      )
    }
    const person = request.token === undefined ? identities.newcomer() : identities.identify(request.token)
    if (person === null)
      return answer(refuse('bad-token', 'this identity is not of this coordinator; say hello without it', 0))
    if (request.trustKey !== undefined && !sameSecret(request.trustKey, trustKey)) {
      return answer(
        refuse(
          'bad-token',
          'the trust key is not that of this coordinator, which makes a new one at every start',
          60_000,
        ),
      )
    }
    const volunteer = `${person}-${request.instance}`
    const trusted = request.trustKey !== undefined
    const { backend, device, run } = request
    if (session.volunteer !== null && session.volunteer !== volunteer) {
      return answer(refuse('malformed', 'this connection has said hello as somebody else'))
    }
    const refusal = runs.hello({ volunteer, backend, device, trusted }, run, now())
    if (refusal !== null) return answer(refusal)
    // The same tab on a new connection: the old one is dead, whether its socket knows it or not.
    const before = this.sessions.get(volunteer)
    this.sessions.set(volunteer, session)
    session.volunteer = volunteer
    if (before !== undefined && before !== session) {
      // What it waits for would be granted to nobody.
      this.parked.delete(volunteer)
      before.socket.disconnect(true)
    }
    log.info({ volunteer, backend, device, trusted }, 'volunteer joined')
    answer({ ok: true, volunteer, token: identities.token(person), trusted, blobAddress })
    session.told = null
  }

  private lease(session: Session, volunteer: string, answer: Answer<'lease'>): void {
    const now = this.options.now()
    const reply = this.options.runs.lease(volunteer, now)
    if (!('waitMs' in reply)) return answer(reply)
    const before = this.parked.get(volunteer)
    this.parked.set(volunteer, { session, answer, until: now + PARK_MS })
    before?.answer(reply)
  }

  private download(socket: Socket, volunteer: string, request: DownloadRequest): AnswerOf<'download'> | Refusal {
    // Who asks faster than it reads would fill our memory.
    if (queued(socket) > SEND_QUEUE_MAX)
      return refuse('rate-limited', 'read what was sent before asking for more', SEND_QUEUE_RETRY_MS)
    const found = this.options.runs.download(volunteer, request)
    if (isRefusal(found)) return found
    const { whole, bytes } = found
    return { ok: true, size: whole.length, hash: this.hash(whole), bytes }
  }

  private update(session: Session, volunteer: string, request: UpdateRequest, answer: Answer<'update'>): void {
    const { payload, ...update } = request
    if (payload !== undefined && payload.length > CHUNK_BYTES) {
      return answer(
        refuse(
          'too-large',
          `an update of more than ${CHUNK_BYTES} bytes is announced first, got ${payload.length} bytes`,
        ),
      )
    }
    if (payload !== undefined && payload.length !== request.size) {
      return answer(refuse('wrong-length', `the update says ${request.size} bytes and brings ${payload.length}`))
    }
    if (payload !== undefined || request.size === 0)
      return this.submit(session, volunteer, update, payload ?? new Uint8Array(0), answer)
    const now = this.options.now()
    const refusal = this.options.runs.announce(volunteer, update, now)
    if (refusal !== null) return answer(refusal)
    const opened = this.uploads.open(volunteer, update, now)
    answer(opened.ok ? { ok: true, verdict: 'send', offset: opened.offset } : opened)
  }

  private submit(
    session: Session,
    volunteer: string,
    update: UpdateRequest,
    payload: Uint8Array,
    answer: (verdict: Verdict | Refusal) => void,
  ): void {
    if (session.updates >= UPDATES_WAITING) {
      return answer(refuse('rate-limited', 'wait for the answers to the updates that were sent', UPDATES_RETRY_MS))
    }
    session.updates++
    const take = () => {
      const verdict = this.options.runs.submit(volunteer, update, payload, this.options.now())
      const again = isRefusal(verdict) && verdict.next === 'retry'
      if (!again) this.uploads.close(volunteer, update.lease)
      answer(verdict)
    }
    this.updates.push(() => {
      session.updates--
      this.guarded(session, 'update', answer, take)
    })
    this.turnSoon()
  }

  /** Answers a message that is none of ours: through its acknowledgement if it has one, else by a message. */
  private unasked(session: Session, refusal: Refusal, args: unknown[]): void {
    this.count(refusal)
    const acknowledge = args.at(-1)
    if (typeof acknowledge === 'function') acknowledge(refusal)
    else session.socket.emit('refused', refusal)
    this.tolerate(session)
  }

  private tolerate(session: Session): void {
    if (++session.malformed >= MALFORMED_MAX) session.socket.disconnect(true)
  }

  private count({ code }: Refusal): void {
    this.refusals.set(code, (this.refusals.get(code) ?? 0) + 1)
  }

  private hash(bytes: Uint8Array): string {
    let hash = this.hashes.get(bytes)
    if (hash === undefined) {
      hash = createHash('sha256').update(bytes).digest('hex')
      this.hashes.set(bytes, hash)
    }
    return hash
  }

  private tellProgress(): void {
    const texts = new Map<Run, { progress: Progress; text: string }>()
    for (const [volunteer, session] of this.sessions) {
      const run = this.options.runs.runOf(volunteer)
      if (run === undefined) continue
      let told = texts.get(run)
      if (told === undefined) {
        const progress = run.progress()
        told = { progress, text: JSON.stringify(progress) }
        texts.set(run, told)
      }
      if (session.told === told.text) continue
      session.told = told.text
      session.socket.emit('progress', told.progress)
    }
  }
}

/** Frames that wait to be sent. */
const queued = (socket: Socket): number => (socket.conn as unknown as { writeBuffer: unknown[] }).writeBuffer.length
