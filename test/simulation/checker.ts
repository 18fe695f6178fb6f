/**
 * What must hold, looked at after every step. Beside the coordinator it keeps a shadow of every run, which knows the
 * journal only, and what volunteers were told.
 */
import type { Entry } from '../../coordinator/journal/journal.ts'
import { EXPORTS, exported, exportedMachines } from '../../coordinator/run/exported.ts'
import type { HeldLease } from '../../coordinator/run/leases.ts'
import type { Run } from '../../coordinator/run/run.ts'
import type { Runs } from '../../coordinator/run/runs.ts'
import type { Stretch } from '../../coordinator/strategies/epochs.ts'
import type { RunDetail } from '../../shared/api.ts'
import { classifies, type ModelBlob } from '../../shared/models.ts'
import type { Lease, Refusal, Start, UpdateRequest, Verdict } from '../../shared/protocol.ts'
import type { Tensors } from '../../shared/stack.ts'
import { Bounds } from './bounds.ts'
import type { Disk } from './disk.ts'
import { checkEnding, freshFold, type Truth } from './endings.ts'
import type { Model, Outcome } from './honest.ts'
import { same } from './same.ts'
import { NORM_MAX, Shadow } from './shadow.ts'
import { must, Violation } from './violation.ts'

const LEASES_PER_VOLUNTEER = 2
/** Who may work on the same examples, where backups are given. */
const HOLDERS_MAX = 3
/** The coordinator looks for overdue leases once a second. */
const TICK_MS = 1_000
/** Nobody's lease, however slow it is or says it was, is out for longer. */
const LEASE_MAX_MS = 2 * 3_600_000

export class Checker {
  private readonly shadows = new Map<string, Shadow>()
  private readonly bounds = new Bounds()
  /** Of every lease ever granted: what its volunteer was told. */
  private readonly leases = new Map<string, Lease>()
  private readonly owners = new Map<string, string>()
  private readonly journalled = new Set<string>()
  private readonly accepted = new Set<string>()
  private readonly starts = new Map<string, Start>()
  /** By run and stage. */
  private readonly models = new Map<string, string>()
  /** By lease: what was honestly computed. */
  private readonly losses = new Map<string, number | null>()
  private readonly hopeless = new Set<string>()
  private readonly withoutOutcomes = new Set<string>()

  // ---- what happens ---------------------------------------------------------------------------------------------

  /** The journal has these, read back from it; before the coordinator folds them in. */
  appended(entries: readonly Entry[]): void {
    for (const entry of entries) {
      if (entry.kind === 'created') {
        must('created', !this.shadows.has(entry.run), `run ${entry.run} is created twice`)
        this.shadows.set(entry.run, new Shadow(entry))
      }
      const lease = entry.kind === 'update' ? (entry.data as { lease: string }).lease : ''
      if (lease !== '') this.journalled.add(lease)
      this.shadow(entry.run).append(entry, this.leases.get(lease))
    }
  }

  granted(run: Run, lease: Lease, volunteer: string, now: number): void {
    const { id, stage } = lease
    this.bounds.granted(run, lease, volunteer, now)
    // The same lease may be told again to a volunteer that did not hear of it; another one never has its name.
    const before = this.leases.get(id)
    if (before !== undefined) {
      return must('L7', JSON.stringify(before) === JSON.stringify(lease), `lease ${id} is told twice, and differs`)
    }
    this.leases.set(id, lease)
    this.owned(id, volunteer)
    must('stages', stage === run.history.stage.index, `a lease of stage ${stage} is granted in another one`)
    const model = this.models.get(`${run.id}/${stage}`) ?? lease.model
    this.models.set(`${run.id}/${stage}`, model)
    must('stages', model === lease.model, `two models are named for stage ${stage}`)
    if (lease.kind === 'evaluate') must('P4', run.roster.get(volunteer)?.trusted === true, `${volunteer} is to test`)
    this.backedUp(run, lease)
  }

  /** A copy of what is out is only given where nothing else is left to do. */
  private backedUp(run: Run, { id }: Lease): void {
    const { leases } = run.inspect()
    const own = leases.find((lease) => lease.id === id)!
    if (own.kind !== 'gradient') return
    const [{ epoch, from }] = own.stretches
    const copied = leases.some((other) => other.id !== id && begins(other, own.stage, epoch, from))
    if (!copied) return
    // Of a synchronous batch the rest of the epoch is none of its business.
    if (run.history.stage.plan.strategy.name === 'synchronous') return
    const free = run.history.epochs.freeInCurrent.length
    must('backup', free === 0, `${id} is a copy, and there is work that nobody has`)
  }

  started(start: Start, volunteer: string): void {
    this.owned(start.lease, volunteer)
    const before = this.starts.get(start.lease)
    const { run, kind, version } = this.leases.get(start.lease)!
    const { version: newest } = this.shadow(run).history.parameters
    if (before === undefined && kind === 'gradient' && start.continues === null) {
      must('L2', start.version === newest, `lease ${start.lease} begins at ${start.version}, the newest is ${newest}`)
    }
    must(
      'L2',
      version === null || version === start.version,
      `lease ${start.lease} was to begin at ${version}, not ${start.version}`,
    )
    const same =
      before === undefined ||
      (before.version === start.version && before.localRate === start.localRate && before.continues === start.continues)
    must('L2', same, `lease ${start.lease} is bound to ${before?.version}, then to ${start.version}`)
    this.starts.set(start.lease, start)
    if (before === undefined) this.bounds.begun(start.lease)
    this.show(start.lease, start.version)
    const { stages } = this.shadow(start.lease.split('.')[0]).history
    const { strategy } = stages[this.leases.get(start.lease)!.stage]
    if (strategy.name !== 'downpour') must('Y1', start.localRate === 0, 'a replica that moves is no part of a sum')
    else if (strategy.policy.bound.name === 'bounded-delay')
      must('bound', start.continues === null, 'what must be in is in the newest version only')
  }

  /** What a volunteer found, before any vice. */
  computed({ id, run }: Lease, { lossSum }: Outcome, norm: number, trusted: boolean): void {
    this.losses.set(id, lossSum)
    if (trusted && (lossSum === null || !(norm <= NORM_MAX))) this.hopeless.add(run)
  }

  tested(run: string, objective: Model['objective'], { payload }: Outcome): void {
    if (classifies(objective) && payload.length === 0) this.withoutOutcomes.add(run)
  }

  answered(run: Run, update: UpdateRequest, verdict: Verdict | Refusal, volunteer: string): void {
    const { lease } = update
    if (!verdict.ok) {
      // Nobody else tests what one was given to test.
      const test = this.leases.get(lease)?.kind === 'evaluate' && this.leases.get(lease)?.stage
      const lost = verdict.code === 'stale' && test === run.history.stage.index
      return must('evaluation', !lost, `${lease}, a part of a test, is refused: ${verdict.message}`)
    }
    if (verdict.verdict !== 'accepted') return
    must('L3', !this.accepted.has(lease), `lease ${lease} is accepted twice`)
    this.accepted.add(lease)
    this.owned(lease, volunteer)
    if (this.leases.get(lease)?.kind === 'gradient') {
      must('J1', this.journalled.has(lease), `${lease} is acknowledged and not in the journal`)
      this.bounds.accepted(lease)
    }
    this.show(lease, verdict.version)
    if (verdict.start !== undefined) this.started(verdict.start, volunteer)
  }

  /** The operator was told so. */
  moved({ run, state }: RunDetail): void {
    const { history } = this.shadow(run)
    must('operator', state === history.state, `the operator is told ${state}, the journal says ${history.state}`)
  }

  gaveBack(lease: string, volunteer: string): void {
    this.owned(lease, volunteer)
  }

  /** A lease is its volunteer's, from the first word of it to the last. */
  private owned(lease: string, volunteer: string): void {
    const owner = this.owners.get(lease) ?? volunteer
    this.owners.set(lease, owner)
    must('T1', owner === volunteer, `${volunteer} disposes of ${lease}, which is ${owner}'s`)
  }

  private show(lease: string, version: number): void {
    const shadow = this.shadow(lease.split('.')[0])
    must('V1', version < shadow.versions.length, `version ${version} is shown before it is durable`)
    shadow.shown = Math.max(shadow.shown, version)
  }

  downloaded(run: string, version: number, bytes: Uint8Array): void {
    const expected = this.shadow(run).versions[version]
    const right = expected?.length === bytes.length && bytes.every((value, i) => value === expected[i])
    must('V1', right, `run ${run}: version ${version} is other bytes now`)
  }

  /** A model was fetched, and `fixed` is what it names beside itself. */
  fetched(model: ModelBlob, fixed: Uint8Array | null): void {
    const expected = 4 * (model.fixed?.layout.size ?? 0)
    must('model', (fixed?.length ?? 0) === expected, `a model's fixed parameters are ${fixed?.length} bytes`)
  }

  /** The coordinator was started anew and has read its journal. */
  recovered(runs: Runs, disk: Disk): void {
    this.bounds.reset()
    must('J2', runs.list().length === this.shadows.size, `${runs.list().length} of ${this.shadows.size} runs came back`)
    for (const run of runs.list()) {
      this.sameBits(run)
      if (run.spec.journal === 'everything') freshFold(run, disk)
    }
  }

  /** Overdue leases were just taken back. */
  ticked(runs: Runs, now: number): void {
    for (const { id, leases } of runs.list().map((run) => ({ id: run.id, ...run.inspect() }))) {
      for (const lease of leases) {
        must('L5', lease.deadline - now < LEASE_MAX_MS, `${lease.id} is out until ${lease.deadline}`)
        must('L5', lease.deadline > now - TICK_MS, `${lease.id} of ${id} is overdue`)
      }
    }
  }

  // ---- after every step -----------------------------------------------------------------------------------------

  step(runs: Runs, now: number): void {
    const holds = new Map<string, { leases: number; overlap: boolean }>()
    for (const run of runs.list()) {
      const { leases } = run.inspect()
      for (const { volunteer, overlaps } of leases) {
        const before = holds.get(volunteer) ?? { leases: 0, overlap: false }
        holds.set(volunteer, { leases: before.leases + 1, overlap: before.overlap || overlaps })
      }
      this.checkEpochs(run, leases)
      this.checkVersions(run, leases)
      this.bounds.look(run, now)
    }
    for (const [volunteer, { leases, overlap }] of holds)
      must('L6', leases <= LEASES_PER_VOLUNTEER + (overlap ? 1 : 0), `${volunteer} holds ${leases} leases`)
  }

  /** Free, out and done tile every open epoch; what is accepted is what is done. */
  private checkEpochs(run: Run, leases: readonly HeldLease[]): void {
    const { epochs, counts, stage } = run.history
    const shadow = this.shadow(run.id)
    const open = epochs.inspect()
    let done = epochs.current * epochs.examples
    const out = this.outOf(run, leases)
    for (const { epoch } of out) {
      must('E1', epoch >= epochs.current && epoch < epochs.current + open.length, `epoch ${epoch} is out and not open`)
      const ahead = epoch > epochs.current && stage.plan.strategy.name !== 'downpour'
      must('E3', !ahead, `epoch ${epoch} is out before ${epochs.current} is summed`)
    }
    open.forEach((at, i) => {
      must('E3', at.epoch === epochs.current + i, `epoch ${at.epoch} is open, ${epochs.current} the oldest`)
      const owned = [...at.free, ...at.done, ...out.filter(({ epoch }) => epoch === at.epoch)]
      owned.sort((a, b) => a.from - b.from)
      let next = 0
      for (const { from, to } of owned) {
        must('E1', from === next, () => {
          const where = `${Math.min(next, from)}..${Math.max(next, from)}`
          return `epoch ${at.epoch} of ${run.id}: positions ${where} are ${from < next ? 'twice' : 'nowhere'}`
        })
        next = to
      }
      must('E1', next === epochs.examples, `epoch ${at.epoch} of ${run.id}: positions from ${next} on are nowhere`)
      done += at.done.reduce((sum, { from, to }) => sum + to - from, 0)
    })
    const { examples, positions } = shadow
    must('E1', counts.examples === examples, `${counts.examples} examples accepted, ${examples} journalled`)
    must('E1', positions === done, `${positions} positions journalled, ${done} done`)
    shadow.complete(epochs.current)
  }

  /** The stage's stretches that are out, each once: several may hold one where backups are given. */
  private outOf({ history: { stage } }: Run, leases: readonly HeldLease[]): Stretch[] {
    const { strategy } = stage.plan
    const backups = strategy.name === 'sandblaster' ? strategy.backups : strategy.name !== 'downpour'
    const holders = new Map<string, string[]>()
    const out: Stretch[] = []
    for (const lease of leases) {
      if (lease.kind !== 'gradient' || lease.stage !== stage.index) continue
      const key = JSON.stringify(lease.stretches)
      const before = holders.get(key) ?? []
      holders.set(key, [...before, lease.volunteer])
      if (before.length === 0) out.push(...lease.stretches)
      else must('E1', backups, `${lease.id} is out with ${before.join(', ')} already`)
      must('backup', !before.includes(lease.volunteer), `${lease.volunteer} is its own backup`)
      must('backup', before.length < HOLDERS_MAX, `${lease.id} is out ${before.length + 1} times`)
    }
    return out
  }

  private checkVersions(run: Run, leases: readonly HeldLease[]): void {
    const shadow = this.shadow(run.id)
    const { version } = run.history.parameters
    must('V1', version >= shadow.shown, `version ${version} after ${shadow.shown} was shown`)
    if (shadow.comparedAt !== version) this.sameBits(run)
    shadow.comparedAt = version
    for (const lease of leases) {
      if (lease.kind !== 'gradient' || lease.state !== 'started' || lease.binding.version >= version) continue
      const bytes = run.history.versions.bytes(lease.binding.version)
      if (bytes !== null) this.downloaded(run.id, lease.binding.version, bytes)
    }
  }

  /** The live run (or one that just recovered) is what the shadow is. */
  private sameBits(run: Run): void {
    same('J2', run.history, this.shadow(run.id).history, `run ${run.id}`)
  }

  /** All is done, and the disk has room again. */
  ended(runs: Runs, disk: Disk): void {
    runs.close()
    for (const run of runs.list()) {
      const truth: Truth = {
        lossSumOf: (lease) => this.losses.get(lease),
        hopeless: this.hopeless.has(run.id),
        withoutOutcomes: this.withoutOutcomes.has(run.id),
      }
      checkEnding(run, this.shadow(run.id), truth, disk)
      for (const name of EXPORTS) this.wholeOf(run, name, exported(runs.lastGood(run), name))
      this.wholeOf(run, 'machines', exportedMachines(runs.lastGood(run)))
    }
  }

  private wholeOf({ id }: Run, name: string, part: Tensors | null): void {
    const whole = part === null || part.parameters.length === part.layout.size
    must('export', whole, `${id}: its ${name} has ${part?.parameters.length} parameters`)
  }

  // ---- a refused update changes nothing -------------------------------------------------------------------------

  /** Everything that an update to `lease` may not change when it is refused. */
  fingerprint(runs: Runs, lease: string, volunteer: string, disk: Disk): string {
    const held = runs.list().map((run) => {
      const { leases } = run.inspect()
      const others = leases.filter(({ id, volunteer: owner }) => id !== lease || owner !== volunteer)
      const own = leases.find(({ id, volunteer: owner }) => id === lease && owner === volunteer)
      const { epochs, counts, parameters, stage } = run.history
      // The refused lease's own positions may become free, where no other has them: they are counted as free before.
      const alone = own?.kind === 'gradient' && own.stage === stage.index && !others.some((other) => copies(other, own))
      const ownStretches = alone ? own.stretches : []
      const open = epochs.inspect().map(({ epoch, free, done }) => {
        const all = [...free, ...ownStretches.filter((stretch) => stretch.epoch === epoch)]
        return [epoch, all.reduce((sum, { from, to }) => sum + to - from, 0), done]
      })
      return [run.id, others, epochs.current, open, counts, parameters.version, [...parameters.snapshot()]]
    })
    return JSON.stringify([disk.length, held])
  }

  unchanged(before: string, after: string, code: string): void {
    if (before === after) return
    let at = 0
    while (before[at] === after[at]) at++
    const [was, is] = [before, after].map((text) => text.slice(Math.max(0, at - 60), at + 60))
    throw new Violation('T1', `an update refused as ${code} changed …${was}… to …${is}…`)
  }

  private shadow(run: string): Shadow {
    const shadow = this.shadows.get(run)
    if (shadow === undefined) throw new Violation('J1', `run ${run} is not in the journal`)
    return shadow
  }
}

const copies = (other: HeldLease, { stage, stretches: [{ epoch, from }] }: HeldLease): boolean =>
  begins(other, stage, epoch, from)

/** It is the stage's work on the examples that begin there. */
function begins({ kind, stage, stretches: [first] }: HeldLease, ofStage: number, epoch: number, from: number): boolean {
  return kind === 'gradient' && stage === ofStage && first.epoch === epoch && first.from === from
}
