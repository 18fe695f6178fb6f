/**
 * Sandblaster's trajectory depends neither on who computed it nor on the portions: L-BFGS by one volunteer, against
 * several who are killed and replaced while they compute, in portions of several sizes. The figure is the largest
 * relative difference of the losses along the iterations.
 */
import type { RunSpec } from '../../../../shared/run-spec.ts'
import type { Point } from '../chart.ts'
import { beginning, type Claim, type Outcome, type Outcomes, type Row, type Settings, type Trial } from '../row.ts'
import { specOf } from '../spec-file.ts'

const EXAMPLES = 4_000
const ITERATIONS = 20
const PORTIONS = [300, 700, 1000]
const BATCH = 100
/** What the other sizes are compared with. */
const WHOLE = 1000
const VOLUNTEERS = 3
/** So slow that there is always a volunteer in the middle of a portion. */
const PACE = 2_000
/** In passes over the examples, when a volunteer is killed. A run has 20 to 30. */
const KILLS = [0.6, 3.4, 7.3, 11.5, 15.8]
const REACH = 1e-6

const spec = (seed: number, portionSize: number, backups: boolean, { quick }: Settings): RunSpec =>
  specOf('lbfgs', {
    seed,
    dataset: { train: EXAMPLES, ...(quick ? { test: 200 } : {}) },
    strategy: { portionSize, batchSize: BATCH, tolerance: 0, backups },
    stop: { epochs: quick ? 3 : ITERATIONS },
  })

const ONE = 'one-'
const KILLED = 'killed-'
const named = (crowd: string, portionSize: number, seed: number) => `${crowd}${portionSize}-seed-${seed}`

export const lbfgs: Row = {
  name: 'lbfgs',
  title: `L-BFGS, ${ITERATIONS} iterations on ${EXAMPLES} digits: one volunteer against a crowd that dies`,
  trials: (settings): Trial[] =>
    settings.seeds.flatMap((seed) =>
      PORTIONS.flatMap((portionSize): Trial[] => [
        {
          name: named(ONE, portionSize, seed),
          seed,
          spec: spec(seed, portionSize, false, settings),
          crowd: { volunteers: 1, measured: {} },
        },
        {
          name: named(KILLED, portionSize, seed),
          seed,
          spec: spec(seed, portionSize, true, settings),
          crowd: {
            volunteers: settings.volunteers ?? VOLUNTEERS,
            measured: { pace: PACE, replaceAfter: KILLS.map((passes) => Math.ceil((passes * EXAMPLES) / portionSize)) },
          },
        },
      ]),
    ),
  read: ({ iterations }) => ({
    figures: { iterations: iterations.length - 1, loss: iterations[iterations.length - 1].loss },
    curves: { loss: iterations.map(({ iteration, loss }) => [iteration, loss]) },
  }),
  claims: (outcomes): Claim[] => [
    {
      figure: 'largest relative difference of the loss, a dying crowd to one volunteer, same portions',
      unit: '',
      values: beginning(outcomes, KILLED).map((outcome) => largest(differences(outcomes, outcome, portionOf(outcome)))),
      reference: null,
      source: 'DistBelief §4.2: the same numbers, whoever computes them',
      better: 'lower',
      reach: REACH,
      aim: 0,
      judged: 'worst',
    },
    {
      figure: `the same, portions of other sizes to ${WHOLE}`,
      unit: '',
      values: others(outcomes).map((outcome) => largest(differences(outcomes, outcome, WHOLE))),
      reference: null,
      source: 'the same numbers, however they are shared out',
      better: 'lower',
      reach: REACH,
      aim: 0,
      judged: 'worst',
    },
  ],
  remarks: (outcomes) => {
    const crowds = beginning(outcomes, KILLED)
    const killed = crowds.reduce((sum, { replaced }) => sum + replaced, 0)
    return [
      `${killed} volunteers were killed and replaced in ${crowds.length} runs; portions of ${PORTIONS.join(', ')} examples.`,
    ]
  },
  charts: (outcomes) => [
    {
      title: 'Loss along the iterations',
      x: { label: 'iteration', from: 0 },
      y: { label: 'loss', logarithmic: true },
      curves: [...outcomes.values()].map(({ trial, curves }) => ({ name: trial, points: curves.loss })),
    },
    {
      title: `Relative difference to one volunteer; what is exactly equal is not drawn`,
      x: { label: 'iteration', from: 0, to: ITERATIONS },
      y: { label: 'relative difference', logarithmic: true, from: 1e-9, to: 1e-3 },
      curves: [
        ...beginning(outcomes, KILLED).map((outcome, i) => ({
          name: `${outcome.trial}, same portions`,
          points: visible(differences(outcomes, outcome, portionOf(outcome))),
          colour: i,
        })),
        ...others(outcomes).map((outcome, i) => ({
          name: `${outcome.trial} to ${WHOLE}`,
          points: visible(differences(outcomes, outcome, WHOLE)),
          as: 'dashes' as const,
          colour: i,
        })),
      ],
      levels: [{ name: `reach ${REACH}`, at: REACH }],
    },
  ],
}

const portionOf = ({ spec: { strategy } }: Outcome): number => ('portionSize' in strategy ? strategy.portionSize : 0)
const others = (outcomes: Outcomes): Outcome[] =>
  beginning(outcomes, ONE).filter((outcome) => portionOf(outcome) !== WHOLE)
const largest = (points: readonly Point[]): number => Math.max(...points.map((point) => point[1]))
const visible = (points: readonly Point[]): Point[] => points.filter((point) => point[1] > 0)

/** To one volunteer's run with these portions. An iteration that only one of them has differs altogether. */
function differences(outcomes: Outcomes, { seed, curves }: Outcome, portionSize: number): Point[] {
  const alone = outcomes.get(named(ONE, portionSize, seed))!.curves.loss
  return Array.from({ length: Math.max(alone.length, curves.loss.length) }, (_, i) => {
    const [a, b] = [alone[i]?.[1], curves.loss[i]?.[1]]
    return [i, a === undefined || b === undefined ? 1 : Math.abs(b - a) / Math.abs(a)]
  })
}
