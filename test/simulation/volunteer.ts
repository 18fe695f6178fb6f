/**
 * A virtual volunteer: asks, starts, computes, returns, over a line that delays, loses and doubles messages; honest,
 * or with a vice.
 */
import type { HeldLease } from '../../coordinator/run/leases.ts'
import type { ModelBlob } from '../../shared/models.ts'
import {
  isRefusal,
  type Lease,
  type Refusal,
  type Start,
  type UpdateRequest,
  type Verdict,
} from '../../shared/protocol.ts'
import type { Agenda } from './agenda.ts'
import type { Draws } from './draws.ts'
import { evaluated, lengthOf, taken, trained } from './honest.ts'
import type { Nature, Vice } from './scenario.ts'
import type { Shell } from './shell.ts'
import { falsified, type Message, theirs } from './vices.ts'

const TIMEOUT_MS = 20_000
/** A tab that vanished without a word is noticed after so long (Socket.IO's ping). */
const PING_MS = 45_000
const UPLOAD_CHUNKS = 3
const SLEEP_MS = 12 * 3_600_000

export interface Surroundings {
  readonly agenda: Agenda
  readonly shell: Shell
  readonly draws: Draws
  /** A lease of somebody else, for those who take what is not theirs. */
  readonly othersLease: (volunteer: string) => HeldLease | null
  readonly runId: (place: number) => string
}

export class Volunteer {
  readonly nature: Nature
  private readonly surroundings: Surroundings
  /** Counts its lives: what a former one asked for is not heard any more. */
  private life = 0
  private token = -1
  private asking = false
  private current: Lease | null = null
  private ahead: Lease | null = null
  /** The parameters it fetched last. */
  private fetched: { run: string; version: number; bytes: Uint8Array } | null = null
  /** By hash: what is kept however often the tab is closed. */
  private readonly models = new Map<string, ModelBlob>()
  private lastUpdate: Message | null = null

  constructor(nature: Nature, surroundings: Surroundings) {
    this.nature = nature
    this.surroundings = surroundings
    surroundings.agenda.after(nature.joinsAtMs, () => this.connect())
  }

  // ---- its line -------------------------------------------------------------------------------------------------

  private connect(): void {
    const { shell, agenda, draws, runId } = this.surroundings
    const { name, trusted, wants } = this.nature
    const introduction = { volunteer: name, backend: 'wasm' as const, device: 'simulated', trusted }
    const life = ++this.life
    this.forget()
    const token = shell.connect(introduction, wants === null ? undefined : runId(wants), () => {
      if (this.life !== life) return
      this.life++
      agenda.after(draws.between(100, 3_000), () => this.connect())
    })
    if (token === null) return agenda.after(draws.between(500, 2_000), () => this.connect())
    this.token = token
    if (this.nature.vice !== 'idle') this.work()
  }

  private forget(): void {
    this.asking = false
    this.current = null
    this.ahead = null
    this.fetched = null
  }

  /** The tab is closed: at once noticed by the coordinator, or only when pings stay out. */
  private vanish(): void {
    const { shell, agenda, draws } = this.surroundings
    const { name, backAfterMs } = this.nature
    const token = this.token
    this.life++
    this.forget()
    agenda.after(draws.chance(0.5) ? draws.between(0, 100) : PING_MS, () => shell.disconnect(name, token))
    if (backAfterMs !== null) agenda.after(draws.between(0.5, 1.5) * backAfterMs, () => this.connect())
  }

  private latency(): number {
    return this.nature.latencyMs * this.surroundings.draws.magnitude(0.3, 3)
  }

  /**
   * Runs `act` at the coordinator and `heard` with its answer here; each may be lost, and the request may come twice.
   */
  private request<R>(act: (answer: (reply: R) => void) => void, heard: (reply: R) => void, timedOut: () => void): void {
    const { agenda, draws, shell } = this.surroundings
    const { life, token } = this
    let over = false
    const answer = (reply: R) => {
      if (shell.silent || draws.chance(this.nature.lost)) return
      agenda.after(this.latency(), () => {
        if (over || this.life !== life) return
        over = true
        heard(reply)
      })
    }
    const send = () => {
      if (shell.silent || draws.chance(this.nature.lost)) return
      agenda.after(this.latency(), () => {
        if (shell.open(this.nature.name, token)) act(answer)
      })
    }
    send()
    if (draws.chance(this.nature.twice)) send()
    agenda.after(TIMEOUT_MS, () => {
      if (over || this.life !== life) return
      over = true
      timedOut()
    })
  }

  private later(delayMs: number, act: () => void): void {
    const { life } = this
    this.surroundings.agenda.after(delayMs, () => {
      if (this.life === life) act()
    })
  }

  // ---- its work -------------------------------------------------------------------------------------------------

  private work(): void {
    if (this.current === null && this.ahead !== null) {
      this.current = this.ahead
      this.ahead = null
      this.start(this.current)
    }
    if (this.asking || this.ahead !== null || (this.current !== null && !this.nature.prefetches)) return
    this.asking = true
    const again = (delayMs: number) =>
      this.later(delayMs, () => {
        this.asking = false
        this.work()
      })
    const { shell } = this.surroundings
    const { name } = this.nature
    this.request<Parameters<Parameters<Shell['lease']>[2]>[0]>(
      (answer) => shell.lease(name, this.token, answer),
      (reply) => {
        if (!reply.ok) return again(reply.retryAfterMs ?? 1_000)
        if ('waitMs' in reply) return again(10)
        if (reply.lease.id === this.current?.id) return again(1_000)
        this.asking = false
        this.ahead = reply.lease
        if (this.surroundings.draws.chance(this.nature.vanishes / 3)) return this.vanish()
        this.work()
      },
      () => again(0),
    )
  }

  private drop(lease: Lease): void {
    if (this.current === lease) this.current = null
    this.work()
  }

  private start(lease: Lease): void {
    const { shell } = this.surroundings
    if (this.vicious() === 'unstarted') {
      const counts = { minibatches: 1, examples: lengthOf(lease), lossSum: 1, correct: 0, computeMs: 1 }
      return this.send(lease, { lease: lease.id, version: 0, ...counts, size: 8 }, new Uint8Array(8))
    }
    this.request<Start | Refusal>(
      (answer) => answer(shell.start(this.nature.name, lease.id)),
      (reply) => (isRefusal(reply) ? this.drop(lease) : this.begin(lease, reply)),
      () => this.start(lease),
    )
  }

  private begin(lease: Lease, start: Start): void {
    const { draws, shell } = this.surroundings
    if (draws.chance(this.nature.vanishes / 3)) return this.vanish()
    this.work()
    const model = this.models.get(lease.model)
    if (model !== undefined) return this.fetch(lease, start, model)
    this.request<ModelBlob | null>(
      (answer) => answer(shell.model(lease.model)),
      (found) => {
        if (found === null) return this.giveUp(lease)
        this.models.set(lease.model, found)
        this.fetch(lease, start, found)
      },
      () => this.begin(lease, start),
    )
  }

  private fetch(lease: Lease, start: Start, model: ModelBlob): void {
    const { shell } = this.surroundings
    const { fetched } = this
    if (fetched?.run === lease.run && fetched.version === start.version)
      return this.compute(lease, start, model, fetched.bytes)
    this.request<Uint8Array | null>(
      (answer) => answer(shell.download(lease.run, start.version)),
      (bytes) => {
        if (bytes === null) return this.giveUp(lease)
        this.fetched = { run: lease.run, version: start.version, bytes }
        this.compute(lease, start, model, bytes)
      },
      () => this.fetch(lease, start, model),
    )
  }

  /** What it needs is not there any more. */
  private giveUp(lease: Lease): void {
    const { agenda, shell } = this.surroundings
    const { name } = this.nature
    agenda.after(this.latency(), () => shell.open(name, this.token) && shell.giveBack(name, lease.id))
    this.drop(lease)
  }

  private compute(lease: Lease, start: Start, model: ModelBlob, bytes: Uint8Array): void {
    const { draws, shell } = this.surroundings
    const { nature } = this
    const examples = taken(lease).length
    const batches = Math.ceil(examples / lease.batchSize)
    const perBatchMs = (1000 * Math.min(examples, lease.batchSize)) / nature.examplesPerSecond
    const minibatches = Math.min(batches, Math.max(1, Math.ceil(lease.budgetMs / perBatchMs)))
    const tookMs = minibatches * perBatchMs * (draws.chance(nature.stalls) ? draws.magnitude(5, 500) : 1)
    this.later(tookMs, () => {
      if (draws.chance(nature.vanishes / 3)) return this.vanish()
      if (draws.chance(nature.givesBack)) {
        shell.open(nature.name, this.token) && shell.giveBack(nature.name, lease.id)
        return this.drop(lease)
      }
      const gradient = lease.kind === 'gradient'
      const { payload, ...found } = gradient
        ? trained(lease, model, bytes, minibatches)
        : evaluated(lease, model, bytes, start.version, nature.tellsOutcomes)
      shell.computed(lease, { payload, ...found }, model, nature.trusted)
      const rest = { minibatches: gradient ? minibatches : 0, computeMs: tookMs, size: payload.length }
      const update = { lease: lease.id, version: start.version, ...found, ...rest }
      this.misbehave(lease, { update, payload }, model.layout.size)
    })
  }

  // ---- its vices ------------------------------------------------------------------------------------------------

  private vicious(): Vice | null {
    const { vice, viceChance } = this.nature
    return vice !== null && this.surroundings.draws.chance(viceChance) ? vice : null
  }

  private misbehave(lease: Lease, message: Message, size: number): void {
    const { draws, othersLease, shell } = this.surroundings
    const vice = this.vicious()
    const { update, payload } = falsified(vice, message, lease, size, draws)
    switch (vice) {
      case 'foreign': {
        const other = othersLease(this.nature.name)
        if (other === null) break
        if (draws.chance(0.3)) shell.giveBack(this.nature.name, other.id)
        return this.send(lease, theirs(update, other), payload)
      }
      case 'replay':
        if (this.lastUpdate !== null) return this.send(lease, this.lastUpdate.update, this.lastUpdate.payload)
        break
      case 'silent':
        return this.later(600_000, () => this.drop(lease))
      case 'squat':
        return this.squat(lease, update)
    }
    this.send(lease, update, payload)
  }

  /** Announces for ever and never sends. */
  private squat(lease: Lease, update: UpdateRequest): void {
    const { shell } = this.surroundings
    if (!shell.open(this.nature.name, this.token)) return
    if (shell.announce(this.nature.name, update) !== null) return this.drop(lease)
    this.later(30_000, () => this.squat(lease, update))
  }

  // ---- sending what it computed ---------------------------------------------------------------------------------

  private send(lease: Lease, update: UpdateRequest, payload: Uint8Array): void {
    if (lease.overlaps && this.current === lease) {
      // The next one is begun meanwhile.
      this.current = null
      this.work()
    }
    if (!this.nature.announces || payload.length === 0) return this.submit(lease, update, payload)
    const { shell } = this.surroundings
    this.request<Refusal | null>(
      (answer) => answer(shell.announce(this.nature.name, update)),
      (refusal) =>
        refusal === null ? this.upload(lease, update, payload, 0) : this.refused(lease, update, payload, refusal),
      () => this.send(lease, update, payload),
    )
  }

  private upload(lease: Lease, update: UpdateRequest, payload: Uint8Array, chunk: number): void {
    if (chunk === UPLOAD_CHUNKS) return this.submit(lease, update, payload)
    const { shell, draws } = this.surroundings
    if (draws.chance(this.nature.vanishes / 6)) return this.vanish()
    this.request<Refusal | null>(
      (answer) => answer(shell.uploading(this.nature.name, update)),
      (refusal) =>
        refusal === null
          ? this.upload(lease, update, payload, chunk + 1)
          : this.refused(lease, update, payload, refusal),
      () => this.upload(lease, update, payload, chunk),
    )
  }

  private submit(lease: Lease, update: UpdateRequest, payload: Uint8Array): void {
    const { shell, draws } = this.surroundings
    const next = this.ahead
    const asked = next === null ? update : { ...update, next: next.id }
    this.lastUpdate = { update, payload }
    if (draws.chance(this.nature.vanishes / 3)) {
      // Sent, and gone before the answer.
      const { token } = this
      this.surroundings.agenda.after(this.latency(), () => {
        if (shell.open(this.nature.name, token)) shell.submit(this.nature.name, asked, payload, () => {})
      })
      return this.vanish()
    }
    this.request<Verdict | Refusal>(
      (answer) => shell.submit(this.nature.name, asked, payload, answer),
      (verdict) => {
        if (!verdict.ok) return this.refused(lease, update, payload, verdict)
        if (this.current === lease) this.current = null
        // The line is open, and nobody asks for anything.
        if (this.ahead === null && this.vicious() === 'sleep') return this.later(SLEEP_MS, () => this.work())
        if (verdict.verdict === 'accepted' && verdict.start !== undefined && this.ahead === next && next !== null) {
          this.current = next
          this.ahead = verdict.lease ?? null
          return this.begin(next, verdict.start)
        }
        this.work()
      },
      () => this.send(lease, update, payload),
    )
  }

  private refused(lease: Lease, update: UpdateRequest, payload: Uint8Array, { next, retryAfterMs }: Refusal): void {
    if (next === 'retry') return this.later(retryAfterMs ?? 1_000, () => this.send(lease, update, payload))
    this.drop(lease)
  }
}
