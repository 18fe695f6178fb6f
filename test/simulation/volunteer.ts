/**
 * A virtual volunteer: asks, starts, computes, returns, over a line that delays, loses and doubles messages; honest,
 * or with a vice.
 */
import type { HeldLease } from '../../coordinator/run/leases.ts'
import { codecs, encodeVector } from '../../shared/codec.ts'
import type { Layout } from '../../shared/layout.ts'
import type { Lease, Refusal, Start, UpdateRequest, Verdict } from '../../shared/protocol.ts'
import type { Agenda } from './agenda.ts'
import type { Draws } from './draws.ts'
import { SHARD_EXAMPLES } from './examples.ts'
import { gradient } from './gradient.ts'
import type { Nature, Vice } from './scenario.ts'
import type { Shell } from './shell.ts'

const TIMEOUT_MS = 20_000
/** A tab that vanished without a word is noticed after so long (Socket.IO's ping). */
const PING_MS = 45_000
const UPLOAD_CHUNKS = 3

export interface Surroundings {
  readonly agenda: Agenda
  readonly shell: Shell
  readonly draws: Draws
  readonly layoutOf: (run: string) => Layout
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
  private lastUpdate: { update: UpdateRequest; payload: Uint8Array } | null = null

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

  /** Runs `act` at the coordinator and `heard` with its answer here; each may be lost, and the request may come twice. */
  private request<R>(act: (answer: (reply: R) => void) => void, heard: (reply: R) => void, timedOut: () => void): void {
    const { agenda, draws, shell } = this.surroundings
    const { life, token } = this
    let over = false
    const answer = (reply: R) => {
      if (draws.chance(this.nature.lost)) return
      agenda.after(this.latency(), () => {
        if (over || this.life !== life) return
        over = true
        heard(reply)
      })
    }
    const send = () => {
      if (draws.chance(this.nature.lost)) return
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
      return this.send(lease, this.honest(lease, { lease: lease.id, version: 0 }, 1), new Uint8Array(8))
    }
    this.request<Start | Refusal>(
      (answer) => answer(shell.start(this.nature.name, lease.id)),
      (reply) => ('ok' in reply ? this.drop(lease) : this.begin(lease, reply)),
      () => this.start(lease),
    )
  }

  private begin(lease: Lease, start: Start): void {
    const { draws, shell, agenda } = this.surroundings
    const { nature } = this
    if (draws.chance(nature.vanishes / 3)) return this.vanish()
    this.work()
    if (lease.kind === 'evaluate') return this.compute(lease, start, null)
    const { fetched } = this
    if (fetched?.run === lease.run && fetched.version === start.version)
      return this.compute(lease, start, fetched.bytes)
    this.request<Uint8Array | null>(
      (answer) => answer(shell.download(lease.run, start.version)),
      (bytes) => {
        if (bytes !== null) {
          this.fetched = { run: lease.run, version: start.version, bytes }
          return this.compute(lease, start, bytes)
        }
        agenda.after(this.latency(), () => shell.open(nature.name, this.token) && shell.giveBack(nature.name, lease.id))
        this.drop(lease)
      },
      () => this.begin(lease, start),
    )
  }

  private compute(lease: Lease, start: Start, bytes: Uint8Array | null): void {
    const { draws, shell } = this.surroundings
    const { nature } = this
    const examples = lengthOf(lease)
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
      const update = { ...this.honest(lease, start, minibatches), computeMs: tookMs }
      const payload = bytes === null ? new Uint8Array() : this.gradient(lease, bytes, minibatches)
      this.misbehave(lease, { ...update, size: payload.length }, payload)
    })
  }

  private honest(lease: Lease, { version }: Pick<Start, 'lease' | 'version'>, done: number): UpdateRequest {
    const examples = lease.kind === 'evaluate' ? lengthOf(lease) : Math.min(lengthOf(lease), done * lease.batchSize)
    return {
      lease: lease.id,
      version,
      minibatches: lease.kind === 'evaluate' ? 0 : done,
      examples,
      lossSum: examples,
      // Those with an even number are right.
      correct: lease.kind === 'evaluate' ? lease.segments.reduce((sum, segment) => sum + evenOnes(segment), 0) : 0,
      computeMs: 1,
      size: 8,
    }
  }

  private gradient(
    { run, seed, segments, codec, parametersCodec }: Lease,
    bytes: Uint8Array,
    minibatches: number,
  ): Uint8Array {
    const { size } = this.surroundings.layoutOf(run)
    return gradient({ seed, segments, codec, parametersCodec, bytes, size, minibatches })
  }

  // ---- its vices ------------------------------------------------------------------------------------------------

  private vicious(): Vice | null {
    const { vice, viceChance } = this.nature
    return vice !== null && this.surroundings.draws.chance(viceChance) ? vice : null
  }

  private misbehave(lease: Lease, update: UpdateRequest, payload: Uint8Array): void {
    const { draws, othersLease } = this.surroundings
    const { size } = this.surroundings.layoutOf(lease.run)
    const vector = (value: number) => encodeVector(codecs[lease.codec], new Float32Array(size).fill(value))
    switch (this.vicious()) {
      case 'nan':
        return this.send(lease, update, vector(draws.pick([Number.NaN, Number.POSITIVE_INFINITY])))
      case 'huge':
        return this.send(lease, update, vector(draws.pick([1e5, 3e4, 1e30])))
      case 'short':
        return this.send(lease, update, payload.subarray(0, draws.whole(0, payload.length - 1)))
      case 'long':
        return this.send(lease, update, new Uint8Array(payload.length + draws.whole(1, 100)))
      case 'size':
        return this.send(lease, { ...update, size: draws.whole(0, 1000) + payload.length + 1 }, payload)
      case 'count':
        return this.send(lease, { ...update, ...this.impossible(update) }, payload)
      case 'correct':
        return this.send(lease, { ...update, correct: update.examples + 1 }, payload)
      case 'version':
        return this.send(lease, { ...update, version: Math.max(0, update.version + draws.pick([-1, 1, 5])) }, payload)
      case 'foreign': {
        const other = othersLease(this.nature.name)
        if (other === null) break
        if (draws.chance(0.3)) this.surroundings.shell.giveBack(this.nature.name, other.id)
        return this.send(lease, theirs(update, other), payload)
      }
      case 'replay':
        if (this.lastUpdate !== null) return this.send(lease, this.lastUpdate.update, this.lastUpdate.payload)
        break
      case 'silent':
        return this.later(600_000, () => this.drop(lease))
      case 'squat':
        return this.squat(lease, update)
      case 'loss':
        return this.send(lease, { ...update, lossSum: draws.pick([1.7e308, -1.7e308, 1e300]) }, payload)
      case 'time':
        return this.send(lease, { ...update, computeMs: draws.pick([0, 1e12, 1e300]) }, payload)
    }
    this.send(lease, update, payload)
  }

  private impossible({ examples, minibatches }: UpdateRequest): Partial<UpdateRequest> {
    return this.surroundings.draws.pick([
      { examples: examples + 1 },
      { examples: Math.max(0, examples - 1) },
      { minibatches: 0 },
      { minibatches: 0, examples: 0 },
      { minibatches: minibatches + 1_000_000, examples: 64_000_000 },
      { minibatches: minibatches + 1 },
    ])
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
    this.request<null>(
      (answer) => {
        shell.uploading(update.lease)
        answer(null)
      },
      () => this.upload(lease, update, payload, chunk + 1),
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

/** An update to somebody else's lease in which everything is right. */
function theirs(update: UpdateRequest, lease: HeldLease): UpdateRequest {
  const version = lease.state === 'started' ? lease.binding.version : update.version
  const { id, examples, batchSize } = lease
  return { ...update, lease: id, version, examples, minibatches: Math.ceil(examples / batchSize), correct: 0 }
}

function lengthOf({ segments }: Lease): number {
  return segments.reduce((sum, { from, to }) => sum + to - from, 0)
}

function evenOnes({ shardIndex, from, to }: Lease['segments'][number]): number {
  let even = 0
  for (let i = from; i < to; i++) if ((shardIndex * SHARD_EXAMPLES + i) % 2 === 0) even++
  return even
}
