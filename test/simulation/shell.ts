/**
 * The shell around the core, as gateway and server are it: sessions, parked lease requests, updates that wait for
 * their turn, the tick once a second; and, unlike them, killed at any instant and started anew.
 */
import { createHash } from 'node:crypto'
import { type Entry, StorageError } from '../../coordinator/journal/journal.ts'
import type { Introduction } from '../../coordinator/run/roster.ts'
import { Runs } from '../../coordinator/run/runs.ts'
import { codecs, decodeVector, payloadSize } from '../../shared/codec.ts'
import type { ModelBlob } from '../../shared/models.ts'
import {
  isRefusal,
  type Lease,
  type LeaseReply,
  type Refusal,
  refuse,
  type Start,
  type UpdateRequest,
  updateRequest,
  type Verdict,
} from '../../shared/protocol.ts'
import type { Agenda } from './agenda.ts'
import type { Checker } from './checker.ts'
import { Disk, type KillAt } from './disk.ts'
import type { Draws } from './draws.ts'
import { emptyDataset } from './examples.ts'
import type { Model, Outcome } from './honest.ts'

const TICK_MS = 1_000
const PARK_MS = 8_000
/** An update waits so long for its turn, at most. */
const TURN_MS = 30
/** And where the coordinator's thread is held up just then. */
const SLOW_MS = 4_000
const SLOW = 0.06
const RESTART_MS = [100, 5_000] as const

export interface Figures {
  steps: number
  crashes: number
  accepted: number
  evaluated: number
  refused: Record<string, number>
  expired: number
  givenBack: number
  diskFull: number
}

export class Shell {
  readonly disk: Disk
  readonly figures: Figures
  /** null while the process is dead. */
  runs: Runs | null = null
  /** Nothing gets through to anybody, and no connection breaks. */
  silent = false
  private readonly agenda: Agenda
  private readonly checker: Checker
  private readonly draws: Draws
  private readonly note: (line: string) => void
  /** Told when its connection ends. */
  private readonly sessions = new Map<string, { token: number; closed: () => void }>()
  private readonly parked = new Map<
    string,
    { token: number; answer: (reply: LeaseReply | Refusal) => void; until: number }
  >()
  private boots = 0
  private tokens = 0
  /** When the last update that waits has its turn: they are taken in order. */
  private turnAt = 0
  private called = false

  constructor(agenda: Agenda, checker: Checker, draws: Draws, figures: Figures, note: (line: string) => void) {
    this.agenda = agenda
    this.checker = checker
    this.draws = draws
    this.figures = figures
    this.note = note
    const appended = (entries: Entry[]) => {
      for (const { kind } of entries) {
        if (kind === 'update') figures.accepted++
        if (kind === 'evaluated') figures.evaluated++
      }
      checker.appended(entries)
    }
    this.disk = new Disk(appended)
  }

  // ---- the process ----------------------------------------------------------------------------------------------

  boot(): void {
    const boot = ++this.boots
    const runs = new Runs({
      journal: this.disk,
      openDataset: emptyDataset,
      blob: (bytes) => ({ hash: createHash('sha256').update(bytes).digest('hex'), bytes }),
      boot: `b${boot}`,
      listener: {
        work: () => {
          this.called = true
        },
        event: () => {},
        broken: (error) => {
          throw error
        },
        warn: () => {},
      },
    })
    try {
      runs.recover(this.agenda.now)
    } catch (error) {
      if (!(error instanceof StorageError)) throw error
      // No room to write that it is back: the process ends, and whoever watches it starts it again.
      return this.agenda.after(1_000, () => this.boot())
    }
    this.runs = runs
    this.checker.recovered(runs, this.disk)
    this.note(`coordinator up, boot ${boot}`)
    const tick = () => {
      if (this.boots !== boot || this.runs === null) return
      this.tick()
      this.agenda.after(TICK_MS, tick)
    }
    this.agenda.after(TICK_MS, tick)
  }

  /** The process is gone, with everything that is not on disk; every connection breaks. */
  killed(why: string): void {
    if (this.runs === null && why !== 'while starting') return
    this.note(`coordinator killed: ${why}`)
    this.figures.crashes++
    this.runs = null
    this.disk.killAt = null
    this.called = false
    this.turnAt = 0
    this.parked.clear()
    const sessions = [...this.sessions.values()]
    this.sessions.clear()
    for (const { closed } of sessions) closed()
    this.agenda.after(this.draws.between(...RESTART_MS), () => this.boot())
  }

  killAt(moment: KillAt): void {
    if (this.runs !== null) this.disk.killAt = moment
  }

  /** A stop that was asked for. */
  stop(): void {
    const { runs } = this
    if (runs === null) return
    runs.close()
    this.killed('orderly stop')
  }

  private tick(): void {
    const { now } = this.agenda
    const runs = this.runs!
    const before = runs.list().reduce((sum, run) => sum + run.inspect().leases.length, 0)
    runs.expire(now)
    this.figures.expired += before - runs.list().reduce((sum, run) => sum + run.inspect().leases.length, 0)
    this.checker.ticked(runs, now)
    for (const [volunteer, { answer, until }] of [...this.parked]) {
      if (until > now) continue
      this.parked.delete(volunteer)
      answer(this.leased(volunteer, runs.lease(volunteer, now)))
    }
  }

  /** After every step: work may have appeared. */
  settle(): void {
    const { runs } = this
    if (runs === null) return
    while (this.called) {
      this.called = false
      for (const [volunteer, { answer }] of [...this.parked]) {
        const reply = runs.lease(volunteer, this.agenda.now)
        if ('waitMs' in reply) continue
        this.parked.delete(volunteer)
        answer(this.leased(volunteer, reply))
      }
    }
  }

  // ---- connections ----------------------------------------------------------------------------------------------

  /** Opens a connection; null while nobody listens. `closed` is called when it breaks. */
  connect(introduction: Introduction, wanted: string | undefined, closed: () => void): number | null {
    if (this.runs === null) return null
    const run = wanted !== undefined && this.runs.get(wanted) !== undefined ? wanted : undefined
    const refusal = this.runs.hello(introduction, run, this.agenda.now)
    if (refusal !== null) return null
    const token = ++this.tokens
    this.sessions.set(introduction.volunteer, { token, closed })
    this.parked.delete(introduction.volunteer)
    return token
  }

  disconnect(volunteer: string, token: number): void {
    if (!this.open(volunteer, token)) return
    this.sessions.delete(volunteer)
    this.parked.delete(volunteer)
    this.note(`${volunteer} is gone`)
    this.runs!.bye(volunteer, this.agenda.now)
  }

  open(volunteer: string, token: number): boolean {
    return this.runs !== null && this.sessions.get(volunteer)?.token === token
  }

  // ---- requests of an open connection ---------------------------------------------------------------------------

  lease(volunteer: string, token: number, answer: (reply: LeaseReply | Refusal) => void): void {
    const reply = this.runs!.lease(volunteer, this.agenda.now)
    if (!('waitMs' in reply)) return answer(this.leased(volunteer, reply))
    const before = this.parked.get(volunteer)
    this.parked.set(volunteer, { token, answer, until: this.agenda.now + PARK_MS })
    before?.answer(reply)
  }

  private leased(volunteer: string, reply: LeaseReply | Refusal): LeaseReply | Refusal {
    if ('lease' in reply) {
      const run = this.runs!.get(reply.lease.run)!
      this.checker.granted(run, reply.lease, volunteer, this.agenda.now)
      const held = run.inspect().leases.find(({ id }) => id === reply.lease.id)!
      this.note(`${volunteer} is granted ${held.kind} ${held.id}: ${JSON.stringify(held.stretches)}`)
    }
    return reply
  }

  start(volunteer: string, lease: string): Start | Refusal {
    const start = this.runs!.start(volunteer, lease, this.agenda.now)
    if (!isRefusal(start)) this.checker.started(start, volunteer)
    this.note(`${volunteer} starts ${lease}: ${isRefusal(start) ? start.code : `version ${start.version}`}`)
    return start
  }

  /** A model, with what it names beside itself. */
  model(hash: string): ModelBlob | null {
    const bytes = this.runs!.blob(hash)
    if (bytes === null) return null
    const model = JSON.parse(new TextDecoder().decode(bytes)) as ModelBlob
    this.checker.fetched(model, model.fixed === null ? null : this.runs!.blob(model.fixed.hash))
    return model
  }

  /** What an honest volunteer found, before it is asked whether it is one. */
  computed(lease: Lease, outcome: Outcome, { layout, objective }: Model, trusted: boolean): void {
    if (lease.kind === 'evaluate') return this.checker.tested(lease.run, objective, outcome)
    const codec = codecs[lease.codec]
    // What its rounding lost is too short to matter.
    const sum = outcome.payload.subarray(0, payloadSize(codec, layout.size))
    const vector = decodeVector(codec, sum, layout.size)
    this.checker.computed(lease, outcome, Math.hypot(...vector), trusted)
  }

  download(run: string, version: number): Uint8Array | null {
    const bytes = this.runs!.get(run)?.history.versions.bytes(version) ?? null
    if (bytes !== null) this.checker.downloaded(run, version, bytes)
    return bytes
  }

  giveBack(volunteer: string, lease: string): void {
    const reply = this.runs!.giveBack(volunteer, { lease })
    if (reply.ok) {
      this.figures.givenBack++
      this.checker.gaveBack(lease, volunteer)
    }
    this.note(`${volunteer} gives ${lease} back: ${reply.ok ? 'ok' : reply.code}`)
  }

  announce(volunteer: string, update: UpdateRequest): Refusal | null {
    const malformed = this.malformed(update)
    if (malformed !== null) return malformed
    return this.checked(volunteer, update, (runs) => runs.announce(volunteer, update, this.agenda.now))
  }

  uploading(volunteer: string, update: UpdateRequest): Refusal | null {
    return this.checked(volunteer, update, (runs) => runs.uploading(volunteer, update.lease, this.agenda.now))
  }

  /** Asks; a refusal is noted, and must have changed nothing. */
  private checked(volunteer: string, update: UpdateRequest, ask: (runs: Runs) => Refusal | null): Refusal | null {
    const runs = this.runs!
    const before = this.checker.fingerprint(runs, update.lease, volunteer, this.disk)
    const refusal = ask(runs)
    if (refusal !== null) this.refused(runs, volunteer, update, refusal, before)
    return refusal
  }

  submit(
    volunteer: string,
    update: UpdateRequest,
    payload: Uint8Array,
    answer: (verdict: Verdict | Refusal) => void,
  ): void {
    const malformed = this.malformed(update)
    if (malformed !== null) return answer(malformed)
    const runs = this.runs!
    const { now } = this.agenda
    this.turnAt = Math.max(this.turnAt, now + this.draws.between(0, this.draws.chance(SLOW) ? SLOW_MS : TURN_MS))
    this.agenda.after(this.turnAt - now, () => {
      if (this.runs === runs) this.take(runs, volunteer, update, payload, answer)
    })
  }

  private take(
    runs: Runs,
    volunteer: string,
    update: UpdateRequest,
    payload: Uint8Array,
    answer: (verdict: Verdict | Refusal) => void,
  ): void {
    const before = this.checker.fingerprint(runs, update.lease, volunteer, this.disk)
    const verdict = runs.submit(volunteer, update, payload, this.agenda.now)
    const said = verdict.ok
      ? `${verdict.verdict}${'version' in verdict ? ` at version ${verdict.version}` : ''}`
      : verdict.code
    this.note(`${volunteer} updates ${update.lease} (version ${update.version}): ${said}`)
    const run = runs.get(update.lease.split('.')[0])
    if (run !== undefined) this.checker.answered(run, update, verdict, volunteer)
    if (verdict.ok && 'lease' in verdict && verdict.lease !== undefined)
      this.leased(volunteer, { ok: true, lease: verdict.lease })
    if (!verdict.ok) this.refused(runs, volunteer, update, verdict, verdict.code.startsWith('storage') ? null : before)
    answer(verdict)
  }

  private refused(
    runs: Runs,
    volunteer: string,
    { lease }: UpdateRequest,
    { code }: Refusal,
    before: string | null,
  ): void {
    this.figures.refused[code] = (this.figures.refused[code] ?? 0) + 1
    // What the coordinator itself computed may show that the run has diverged: that is journalled at once.
    const diverged = runs.get(lease.split('.')[0])?.failure != null
    if (before === null || diverged) return
    this.checker.unchanged(before, this.checker.fingerprint(runs, lease, volunteer, this.disk), code)
  }

  private malformed(update: UpdateRequest): Refusal | null {
    return updateRequest.safeParse(update).success ? null : refuse('malformed', 'does not parse')
  }
}
