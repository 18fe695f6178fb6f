/**
 * One seed's story: a coordinator's core, a crowd and their misfortunes under virtual time, checked after every step,
 * until every run has come to its end. The same seed is the same story, to the last draw.
 */
import { StorageError } from '../../coordinator/journal/journal.ts'
import type { HeldLease } from '../../coordinator/run/leases.ts'
import type { RunState } from '../../shared/api.ts'
import { Agenda } from './agenda.ts'
import { Checker } from './checker.ts'
import { Killed } from './disk.ts'
import { Draws } from './draws.ts'
import { type Misfortune, type Scenario, scenario } from './scenario.ts'
import { type Figures, Shell } from './shell.ts'
import { Violation } from './violation.ts'
import { Volunteer } from './volunteer.ts'

/** In the calm a run gets on: an update is accepted, or its evaluation ends, within so long. */
const STALL_MS = 2 * 3_600_000
/** However slow the disk is, the operator is answered before this. */
const ANSWER_MS = 10_000
/** And a run has its end. */
const STEPS_MAX = 400_000
const EVENTS_REMEMBERED = 30
const EPOCH_MS = Date.UTC(2026, 0, 1)

export interface Failure {
  readonly seed: number
  readonly step: number
  readonly rule: string
  readonly message: string
  readonly events: readonly string[]
}

export interface Outcome {
  readonly figures: Figures
  /** Virtual time it took, milliseconds. */
  readonly virtualMs: number
  readonly failure: Failure | null
}

export function simulate(seed: number, log?: (line: string) => void): Outcome {
  return new Simulation(seed, scenario(seed), log).run()
}

class Simulation {
  private readonly seed: number
  private readonly story: Scenario
  private readonly agenda = new Agenda(EPOCH_MS)
  private readonly draws: Draws
  private readonly checker = new Checker()
  private readonly shell: Shell
  private readonly events: string[] = []
  private created = 0
  private progressAt = EPOCH_MS
  private readonly figures: Figures = {
    steps: 0,
    crashes: 0,
    accepted: 0,
    evaluated: 0,
    refused: {},
    expired: 0,
    givenBack: 0,
    diskFull: 0,
  }

  constructor(seed: number, story: Scenario, log?: (line: string) => void) {
    this.seed = seed
    this.story = story
    this.draws = new Draws(seed, 2)
    const note = (line: string) => {
      const event = `${((this.agenda.now - EPOCH_MS) / 1000).toFixed(3)} s, step ${this.figures.steps}: ${line}`
      this.events.push(event)
      if (this.events.length > EVENTS_REMEMBERED) this.events.shift()
      log?.(event)
    }
    this.shell = new Shell(this.agenda, this.checker, this.draws, this.figures, note)
    const surroundings = {
      agenda: this.agenda,
      shell: this.shell,
      draws: this.draws,
      othersLease: (volunteer: string) => this.othersLease(volunteer),
      runId: (place: number) => `r${place}`,
    }
    for (const { createdAtMs } of story.specs) this.agenda.after(createdAtMs, () => this.create(this.created++))
    for (const { atMs, what, lastsMs } of story.misfortunes)
      this.agenda.after(atMs, () => this.strike(what, lastsMs, note))
    for (const nature of story.crowd) new Volunteer(nature, surroundings)
    this.agenda.after(story.calmAtMs, () => this.calm())
    if (log !== undefined) for (const part of [...story.specs, ...story.crowd]) log(JSON.stringify(part))
  }

  run(): Outcome {
    let failure: Failure | null = null
    try {
      this.shell.boot()
      while (!this.step()) this.figures.steps++
      this.end()
    } catch (error) {
      const { seed, figures, events } = this
      const rule = error instanceof Violation ? error.rule : 'thrown'
      const message = error instanceof Violation ? error.message : String((error as Error).stack)
      failure = { seed, step: figures.steps, rule, message, events }
    }
    return { figures: this.figures, virtualMs: this.agenda.now - EPOCH_MS, failure }
  }

  /** True when the story is over. */
  private step(): boolean {
    const { agenda, shell, checker, figures, story } = this
    const act = agenda.next()
    if (act === null) throw new Violation('liveness', 'nothing is left to happen')
    const before = figures.accepted + figures.evaluated
    try {
      act()
      shell.settle()
    } catch (error) {
      if (!(error instanceof Killed)) throw error
      shell.killed(error.message)
    }
    const { runs } = shell
    figures.diskFull = shell.disk.refusedWrites
    if (runs === null) return false
    checker.step(runs, agenda.now)
    const calmAt = EPOCH_MS + story.calmAtMs
    if (figures.accepted + figures.evaluated > before || agenda.now < calmAt) this.progressAt = agenda.now
    const all = runs.list()
    if (agenda.now > calmAt && all.length === story.specs.length && all.every((run) => run.over)) return true
    if (agenda.now - this.progressAt > STALL_MS || figures.steps > STEPS_MAX) {
      const stuck = all.filter((run) => !run.over)
      const detail = stuck.map(
        (run) => `${run.id} ${run.state} at epoch ${run.history.epochs.progress}, ${JSON.stringify(run.inspect())}`,
      )
      throw new Violation('liveness', `a run does not come to its end: ${detail.join('; ')}`)
    }
    return false
  }

  /** Everything came to its end: once more through a crash, and it is still the same. */
  private end(): void {
    const { shell, checker } = this
    checker.ended(shell.runs!, shell.disk)
    shell.killed('at the end')
    shell.boot()
    checker.ended(shell.runs!, shell.disk)
  }

  private create(place: number): void {
    const { runs } = this.shell
    const id = `r${place}`
    if (runs === null || this.agenda.now < EPOCH_MS) return this.agenda.after(500, () => this.create(place))
    if (runs.get(id) !== undefined) return
    // Where the disk is full, or the coordinator killed before it can answer, the operator looks, and tries again.
    this.agenda.after(ANSWER_MS, () => this.create(place))
    this.mayFail(() => runs.create(id, this.story.specs[place].spec, this.agenda.now))
  }

  private strike(what: Misfortune, lastsMs: number, note: (line: string) => void): void {
    const { shell, agenda } = this
    const { runs } = shell
    note(`misfortune: ${what}`)
    switch (what) {
      case 'crash':
        return shell.killed('kill -9')
      case 'crash-orderly':
        return shell.stop()
      case 'crash-before-append':
        return shell.killAt('before-append')
      case 'crash-after-append':
        return shell.killAt('after-append')
      case 'crash-before-checkpoint':
        return shell.killAt('before-checkpoint')
      case 'crash-after-checkpoint':
        return shell.killAt('after-checkpoint')
      case 'disk-full':
        shell.disk.full = true
        return agenda.after(lastsMs, () => {
          shell.disk.full = false
        })
      case 'silence':
        shell.silent = true
        // Long enough for leases to expire, several at once.
        return agenda.after(5 * lastsMs, () => {
          shell.silent = false
        })
      case 'pause':
        for (const run of runs?.list() ?? []) this.move(run.id, 'paused')
        return agenda.after(lastsMs, () => this.resume())
      case 'pause-when-trained': {
        const run = runs?.list().find((one) => one.trained && one.state === 'running')
        if (run === undefined) {
          if (agenda.now < EPOCH_MS + this.story.calmAtMs) agenda.after(200, () => this.strike(what, lastsMs, () => {}))
          return
        }
        this.move(run.id, 'paused')
        return agenda.after(lastsMs, () => this.resume())
      }
      case 'stop':
        for (const run of runs?.list() ?? []) this.move(run.id, 'finished')
    }
  }

  private move(id: string, state: RunState): void {
    const run = this.shell.runs?.get(id)
    if (run === undefined || run.state === 'draft') return
    // Where it cannot be now, or there was no room to write it, the operator sees that it did not come to be.
    const outcome = this.mayFail(() => this.shell.runs!.move(run, state, null, this.agenda.now))
    if (outcome !== null && typeof outcome !== 'string') this.checker.moved(outcome)
  }

  /** null where there was no room to write it. */
  private mayFail<T>(act: () => T): T | null {
    try {
      return act()
    } catch (error) {
      if (!(error instanceof StorageError)) throw error
      return null
    }
  }

  private resume(): void {
    for (const run of this.shell.runs?.list() ?? []) if (run.state === 'paused') this.move(run.id, 'running')
  }

  /** The operator looks after what is left standing, every few seconds. */
  private calm(): void {
    this.shell.disk.full = false
    this.shell.disk.killAt = null
    this.shell.silent = false
    this.resume()
    this.agenda.after(5_000, () => this.calm())
  }

  private othersLease(volunteer: string): HeldLease | null {
    const leases = this.shell.runs?.list().flatMap((run) => run.inspect().leases) ?? []
    const others = leases.filter((lease) => lease.volunteer !== volunteer)
    return others.length === 0 ? null : this.draws.pick(others)
  }
}
