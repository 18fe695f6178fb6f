/** The core as the shell drives it: runs on a journal in memory, a clock in the hand. */
import { expect } from 'vitest'
import { Runs } from '../../coordinator/run/runs.ts'
import { codecs, payloadSize } from '../../shared/codec.ts'
import { isRefusal, type Lease, type Refusal, type UpdateRequest, type Verdict } from '../../shared/protocol.ts'
import { parseRunSpec, type RunSpec } from '../../shared/run-spec.ts'
import { emptyDataset } from '../simulation/examples.ts'
import { MemoryJournal } from './memory-journal.ts'

const NOW = Date.UTC(2026, 0, 1)

export function specOf(overrides: object = {}): RunSpec {
  const parsed = parseRunSpec({
    dataset: { name: 'mnist', train: 40, test: 10 },
    model: { template: 'softmax' },
    strategy: { name: 'downpour', batchSize: 4, pushEvery: 1 },
    codec: { up: 'f32' },
    evaluateEveryEpochs: 0,
    stop: { epochs: 1 },
    journal: 'everything',
    ...overrides,
  })
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  return parsed.spec
}

/** A coordinator of its own, or one that came back on `journal`. */
export class Desk {
  readonly journal: MemoryJournal
  readonly runs: Runs
  readonly warnings: string[] = []
  /** What the runs are told to be unlike the journal by. */
  readonly broken: unknown[] = []
  /** How often those who wait were told that there may be work. */
  called = 0
  /** Nobody can be told that. */
  deaf = false
  now: number

  constructor(journal = new MemoryJournal(), now = NOW, openDataset = emptyDataset) {
    this.journal = journal
    this.now = now
    this.runs = new Runs({
      journal,
      openDataset,
      blob: (bytes) => ({ hash: '0'.repeat(64), bytes }),
      boot: `b${now}`,
      listener: {
        work: () => {
          if (this.deaf) throw new Error('the sockets are gone')
          this.called++
        },
        event: () => {},
        broken: (error) => this.broken.push(error),
        warn: (message) => this.warnings.push(message),
      },
    })
    this.runs.recover(now)
  }

  /** kill -9 and a new start, `ms` later. */
  again(ms = 1_000, openDataset = emptyDataset): Desk {
    return new Desk(this.journal.reopen(), this.now + ms, openDataset)
  }

  hello(volunteer: string, { trusted = false, run }: { trusted?: boolean; run?: string } = {}): void {
    expect(this.runs.hello({ volunteer, backend: 'wasm', device: '', trusted }, run, this.now)).toBeNull()
  }

  /** Time, in which what is overdue is taken back. */
  passes(ms: number): void {
    this.now += ms
    this.runs.expire(this.now)
  }

  ask(volunteer: string): Lease | string {
    const reply = this.runs.lease(volunteer, this.now)
    return 'lease' in reply ? reply.lease : isRefusal(reply) ? reply.code : reply.reason
  }

  lease(volunteer: string): Lease {
    const lease = this.ask(volunteer)
    if (typeof lease === 'string') throw new Error(`${volunteer} got no lease: ${lease}`)
    return lease
  }

  start(volunteer: string, lease: Lease) {
    const start = this.runs.start(volunteer, lease.id, this.now)
    if (isRefusal(start)) throw new Error(start.message)
    return start
  }

  /** What the coordinator says to an update of the whole lease. */
  submit(
    volunteer: string,
    lease: Lease,
    version: number,
    lies: Partial<UpdateRequest> = {},
    value = 0.1,
  ): Verdict | Refusal {
    const examples = lease.segments.reduce((sum, { from, to }) => sum + to - from, 0)
    const gradient = lease.kind === 'gradient'
    const vectors = lease.compensated ? 2 : 1
    const size = gradient ? vectors * payloadSize(codecs[lease.codec], 15) : 0
    const counts = gradient
      ? { minibatches: Math.ceil(examples / lease.batchSize), correct: 0 }
      : { minibatches: 0, correct: 5 }
    const update = { lease: lease.id, version, ...counts, examples, lossSum: examples, computeMs: 100, size, ...lies }
    const payload = new Uint8Array(new Float32Array(size / 4).fill(value).buffer)
    return this.runs.submit(volunteer, update, payload, this.now)
  }

  /** A whole lease, from asking to the answer. */
  work(volunteer: string, lies: Partial<UpdateRequest> = {}): string {
    const lease = this.lease(volunteer)
    const { version } = this.start(volunteer, lease)
    this.now += 100
    return codeOf(this.submit(volunteer, lease, version, lies))
  }

  get journalled(): number {
    return this.runs.list().reduce((sum, { id }) => sum + [...this.journal.read(id, 0)].length, 0)
  }
}

export function codeOf(verdict: Verdict | Refusal): string {
  return verdict.ok ? verdict.verdict : verdict.code
}

/** A coordinator that has one run, r0. */
export function desk(overrides: object = {}): Desk {
  const at = new Desk()
  at.runs.create('r0', specOf(overrides), at.now)
  return at
}

/** Everything of a run that is durable. */
export const stateOf = (at: Desk, run = 'r0') => {
  const { counts, epochs, series, parameters } = at.runs.get(run)!.history
  return JSON.stringify([counts, epochs, series, parameters.version, [...parameters.snapshot()]])
}
