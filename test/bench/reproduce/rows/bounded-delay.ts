/**
 * Bounded delay with a straggler: two volunteers of one pace and one four times as slow, and how long they wait for
 * each other when a lease may begin with at most so many before it still out. Plain asynchronous SGD on 784-256-10, one
 * epoch.
 *
 * Idle: the share of the three volunteers' time, between the first update and the last, in which they did not compute
 * at their pace. While the slow one computes one lease the others do eight, so from a delay of 8 on nearly everybody
 * can work; with delay 0 one lease is computed after the other, and two of three are idle whatever else is done.
 */
import type { RunSpec } from '../../../../shared/run-spec.ts'
import { beginning, type Claim, meanOf, type Outcomes, type Row, type Settings, valuesOf } from '../row.ts'
import { quickened, specOf } from '../spec-file.ts'
import { computingShare, lastStage, testError, trainingCurve } from '../trained-run.ts'

const DELAYS = [0, 2, 4, 8, 16, 32]
/** Li et al. (OSDI 2014) on sparse logistic regression; 50 % at 0, and 8 was the fastest to the same objective. */
const REFERENCE: Record<number, number> = { 16: 1.7 }
const REACH: Record<number, number> = { 8: 5 }
const FAST = 200
const PACES = [FAST, FAST, FAST / 4]

const spec = (seed: number, delay: number): RunSpec =>
  specOf('bounded-delay', {
    name: `Bounded delay ${delay}`,
    seed,
    model: { hidden: [256] },
    strategy: { warmStart: 0, maxStaleness: 600, policy: { bound: { name: 'bounded-delay', delay } } },
    // The slow one's leases are as large as the others'.
    leaseSeconds: 60,
    codec: { up: 'int8', down: 'f16' },
    stop: { epochs: 1 },
  })

const named = (delay: number) => `delay-${delay}-`

export const boundedDelay: Row = {
  name: 'bounded-delay',
  title: `Bounded delay: volunteers of ${PACES.join(', ')} examples/s`,
  trials: (settings: Settings) =>
    settings.seeds.flatMap((seed) =>
      DELAYS.map((delay) => ({
        name: `${named(delay)}seed-${seed}`,
        seed,
        spec: quickened(spec(seed, delay), settings),
        crowd: { volunteers: PACES.length, measured: { pace: PACES } },
      })),
    ),
  read: (run) => ({
    figures: {
      idle: 100 * (1 - computingShare(run.updates)),
      error: testError(run),
      staleness: run.meanStaleness,
      seconds: run.seconds,
    },
    curves: { training: trainingCurve(run, lastStage(run), 'error', 10) },
  }),
  claims: (outcomes): Claim[] =>
    DELAYS.map((delay) => ({
      figure: `share of time that volunteers are idle, delay ${delay}`,
      unit: ' %',
      values: valuesOf(beginning(outcomes, named(delay)), 'idle'),
      reference: REFERENCE[delay] ?? null,
      source: 'Li et al. 2014, on other work and machines',
      better: 'lower',
      reach: REACH[delay] ?? null,
      aim: null,
    })),
  remarks: (outcomes) => [
    `Seconds, test error and mean staleness of the epoch: ${DELAYS.map((delay) => {
      const [seconds, error, staleness] = ['seconds', 'error', 'staleness'].map((figure) =>
        mean(outcomes, delay, figure),
      )
      return `delay ${delay}: ${seconds.toFixed(0)} s, ${error.toFixed(2)} %, ${staleness.toFixed(1)}`
    }).join('; ')}.`,
  ],
  charts: (outcomes) => [
    {
      title: 'Idle share of the volunteers’ time',
      x: { label: 'delay', from: 0, ticks: DELAYS },
      y: { label: 'idle, %', from: 0 },
      curves: [
        { name: 'measured', points: DELAYS.map((delay) => [delay, mean(outcomes, delay, 'idle')] as const) },
        {
          name: 'Li et al. 2014',
          points: Object.entries(REFERENCE).map(([delay, idle]) => [Number(delay), idle] as const),
          as: 'dots',
        },
      ],
    },
  ],
}

const mean = (outcomes: Outcomes, delay: number, figure: string) =>
  meanOf(valuesOf(beginning(outcomes, named(delay)), figure))
