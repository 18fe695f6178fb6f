/**
 * A volunteer's standing with a coordinator, across any number of connections: who it is, and a connection that comes
 * back by itself.
 *
 * It is connecting (the first time), up, or reconnecting; a connection counts as up once its `hello` is answered. When
 * it is lost, another is opened after a back-off, with the same identity, whether anybody asks something meanwhile or
 * not. A connection that lasted `STEADY_MS` sets the back-off to its beginning: one that is lost at once over and over
 * is tried ever more seldom. A refusal that says `stop` or `update-page` ends the session; every ask fails with it from
 * then on.
 *
 * `ask` goes on through lost connections and `retry` refusals, so it is for requests that may be repeated. `askOnce`
 * is for the others: it fails with ConnectionLost, and the caller decides where to take up.
 */
import type { BackendName } from '../../shared/backends.ts'
import {
  type AnswerOf,
  type EventName,
  PROTOCOL_VERSION,
  type Progress,
  type Refusal,
  type RequestOf,
  type Welcome,
} from '../../shared/protocol.ts'
import { backoffMs } from './backoff.ts'
import type { Clock } from './clock.ts'
import { Connection, type ConnectionEvents, ConnectionLost, Refused } from './connection.ts'

const STEADY_MS = 10_000
/** Nobody waits longer than this for a volunteer that leaves. */
const LEAVE_WITHIN_MS = 1_000

interface SessionOptions {
  address: string
  /** From an earlier session; null for a newcomer. */
  token: string | null
  /** Drawn once by each tab or process: 8 to 32 of 0-9a-z. */
  instance: string
  trustKey: string | null
  backend: BackendName
  device: string
  /** Work on this run only; null lets the coordinator choose. */
  run: string | null
  clock: Clock
  /** A draw from [0, 1), for the back-off. */
  uniform: () => number
  /** Aborted when the volunteer stops. */
  stopping: AbortSignal
  changed(): void
}

export class Session {
  state: 'connecting' | 'up' | 'reconnecting' = 'connecting'
  /** Why there is no connection, for a person. */
  reason: string | null = null
  progress: Progress | null = null
  welcome: Welcome | null = null
  token: string | null
  private readonly options: SessionOptions
  private connection: Promise<Connection>
  private current: Connection | null = null
  private attempts = 0
  private upSince = 0
  private notBefore = 0
  private ended: Error | null = null
  private leaving: Promise<void> | null = null

  constructor(options: SessionOptions) {
    this.options = options
    this.token = options.token
    this.connection = this.join()
  }

  get clock(): Clock {
    return this.options.clock
  }

  async ask<E extends EventName>(event: E, request: RequestOf<E>): Promise<AnswerOf<E>> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.askOnce(event, request)
      } catch (error) {
        await this.untilWorthRetrying(error, attempt)
      }
    }
  }

  async askOnce<E extends EventName>(event: E, request: RequestOf<E>): Promise<AnswerOf<E>> {
    const connection = await this.connection
    this.options.stopping.throwIfAborted()
    return connection.ask(event, request)
  }

  /** Returns when the request that failed with `error` may be repeated; throws `error` where repeating it is no use. */
  async untilWorthRetrying(error: unknown, attempt: number): Promise<void> {
    const { stopping, clock, uniform } = this.options
    stopping.throwIfAborted()
    if (this.ended) throw this.ended
    if (error instanceof ConnectionLost) return
    if (!(error instanceof Refused) || error.refusal.next !== 'retry') throw error
    await clock.sleep(error.refusal.retryAfterMs ?? backoffMs(attempt, uniform()), stopping)
  }

  /** Gives the leases back and closes; quick, whatever the network does. */
  leave(leases: Iterable<string>): Promise<void> {
    this.leaving ??= this.sayGoodbye(leases)
    return this.leaving
  }

  private async sayGoodbye(leases: Iterable<string>): Promise<void> {
    const connection = this.current
    this.ended ??= new Error('the session is closed')
    if (!connection) return
    const gone = [...leases].map((lease) => connection.ask('giveBack', { lease }, LEAVE_WITHIN_MS))
    await Promise.allSettled(gone)
    connection.close()
  }

  /** Opens connections until one's hello is answered. */
  private join(): Promise<Connection> {
    const joining = this.tryToJoin()
    // Whoever asks next gets the error; with nobody asking it must not end the process.
    joining.catch(() => {})
    return joining
  }

  private async tryToJoin(): Promise<Connection> {
    const { clock, uniform, stopping } = this.options
    for (;;) {
      const backOffMs = this.attempts === 0 ? 0 : backoffMs(this.attempts - 1, uniform())
      await clock.sleep(Math.max(backOffMs, this.notBefore - clock.now()), stopping)
      this.attempts++
      try {
        return await this.open()
      } catch (error) {
        stopping.throwIfAborted()
        if (error instanceof Refused) this.heed(error.refusal)
        if (this.ended) throw this.ended
        this.reason = (error as Error).message
        this.options.changed()
      }
    }
  }

  private async open(): Promise<Connection> {
    const { address, instance, trustKey, backend, device, run, clock, stopping } = this.options
    let lost: string | null = null
    const events: ConnectionEvents = {
      lost: (reason) => {
        lost = reason
        if (this.current === connection) this.lost(reason)
      },
      progress: (progress) => {
        this.progress = progress
        this.options.changed()
      },
      refused: (refusal) => this.heed(refusal),
    }
    const connection = await Connection.open(address, events, stopping)
    try {
      stopping.throwIfAborted()
      this.welcome = await connection.ask('hello', {
        protocol: PROTOCOL_VERSION,
        instance,
        ...(this.token === null ? {} : { token: this.token }),
        ...(trustKey === null ? {} : { trustKey }),
        backend,
        device: device.slice(0, 200),
        ...(run === null ? {} : { run }),
      })
      stopping.throwIfAborted()
      if (lost !== null) throw new ConnectionLost(lost)
    } catch (error) {
      connection.close()
      throw error
    }
    this.token = this.welcome.token
    this.current = connection
    this.upSince = clock.now()
    this.state = 'up'
    this.reason = null
    this.options.changed()
    return connection
  }

  private lost(reason: string): void {
    this.current = null
    if (this.options.clock.now() - this.upSince >= STEADY_MS) this.attempts = 0
    // Even a first attempt waits a little: a restart cuts everybody off in the same instant.
    this.attempts = Math.max(1, this.attempts)
    this.state = 'reconnecting'
    this.reason ??= reason
    if (!this.ended && !this.options.stopping.aborted) this.connection = this.join()
    this.options.changed()
  }

  /** What a refusal of the session as a whole (its hello, or unasked) means for what comes next. */
  private heed(refusal: Refusal): void {
    this.reason = refusal.message
    this.notBefore = this.options.clock.now() + (refusal.retryAfterMs ?? 0)
    // A coordinator that was set up anew does not know the identity kept from before: come as a newcomer.
    if (refusal.code === 'bad-token' && this.token !== null) {
      this.token = null
      return
    }
    if (refusal.next !== 'stop' && refusal.next !== 'update-page') return
    this.ended = new Refused(refusal)
    this.connection = Promise.reject(this.ended)
    this.connection.catch(() => {})
    this.current?.close()
    this.current = null
    this.options.changed()
  }
}
