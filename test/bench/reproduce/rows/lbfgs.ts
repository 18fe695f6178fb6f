/**
 * Sandblaster's trajectory does not depend on who computed it: L-BFGS by one volunteer in one portion a pass, against
 * several volunteers in portions of several sizes, who are killed and replaced while they compute. The figure is the
 * largest relative difference of the losses along the iterations.
 */
import type { RunSpec } from '../../../../shared/run-spec.ts'
import type { Point } from '../chart.ts'
import { beginning, type Claim, type Outcome, type Outcomes, type Row, type Settings, type Trial } from '../row.ts'
import { specOf } from '../spec-file.ts'

const EXAMPLES = 4_000
const ITERATIONS = 20
const PORTIONS = [250, 500, 1000]
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
    strategy: { portionSize, batchSize: Math.min(portionSize, 1000), tolerance: 0, backups },
    stop: { epochs: quick ? 3 : ITERATIONS },
  })

const single = (seed: number) => `one-seed-${seed}`
const KILLED = 'killed-'
const killed = (portionSize: number, seed: number) => `${KILLED}${portionSize}-seed-${seed}`

export const lbfgs: Row = {
  name: 'lbfgs',
  title: `L-BFGS, ${ITERATIONS} iterations on ${EXAMPLES} digits: one volunteer against a crowd that dies`,
  trials: (settings): Trial[] =>
    settings.seeds.flatMap((seed): Trial[] => [
      {
        name: single(seed),
        seed,
        spec: spec(seed, EXAMPLES, false, settings),
        crowd: { volunteers: 1, measured: {} },
      },
      ...PORTIONS.map((portionSize) => ({
        name: killed(portionSize, seed),
        seed,
        spec: spec(seed, portionSize, true, settings),
        crowd: {
          volunteers: settings.volunteers ?? VOLUNTEERS,
          measured: { pace: PACE, replaceAfter: KILLS.map((passes) => Math.ceil((passes * EXAMPLES) / portionSize)) },
        },
      })),
    ]),
  read: ({ iterations }) => ({
    figures: { iterations: iterations.length - 1, loss: iterations[iterations.length - 1].loss },
    curves: { loss: iterations.map(({ iteration, loss }) => [iteration, loss]) },
  }),
  claims: (outcomes): Claim[] => [
    {
      figure: 'largest relative difference of the loss to one volunteer, any iteration',
      unit: '',
      values: crowds(outcomes).map((outcome) => Math.max(...differences(outcomes, outcome).map((point) => point[1]))),
      reference: null,
      source: 'DistBelief §4.2: equal but for rounding',
      better: 'lower',
      reach: REACH,
      aim: null,
      judged: 'worst',
    },
  ],
  remarks: (outcomes) => [
    `${crowds(outcomes).reduce((sum, { replaced }) => sum + replaced, 0)} volunteers were killed and replaced in ` +
      `${crowds(outcomes).length} runs; portions of ${PORTIONS.join(', ')} examples, of ${EXAMPLES} for one volunteer.`,
  ],
  charts: (outcomes) => [
    {
      title: 'Loss along the iterations',
      x: { label: 'iteration', from: 0 },
      y: { label: 'loss', logarithmic: true },
      curves: [...outcomes.values()].map(({ trial, curves }) => ({ name: trial, points: curves.loss })),
    },
    {
      title: 'Relative difference to one volunteer',
      x: { label: 'iteration', from: 0 },
      y: { label: 'relative difference', logarithmic: true },
      curves: crowds(outcomes).map((outcome, i) => ({
        name: outcome.trial,
        points: differences(outcomes, outcome).filter(([, difference]) => difference > 0),
        colour: i + 1,
      })),
      levels: [{ name: `reach ${REACH}`, at: REACH }],
    },
  ],
}

const crowds = (outcomes: Outcomes): Outcome[] => beginning(outcomes, KILLED)

/** An iteration that only one of them has differs altogether. */
function differences(outcomes: Outcomes, { seed, curves }: Outcome): Point[] {
  const alone = outcomes.get(single(seed))!.curves.loss
  return Array.from({ length: Math.max(alone.length, curves.loss.length) }, (_, i) => {
    const [a, b] = [alone[i]?.[1], curves.loss[i]?.[1]]
    return [i, a === undefined || b === undefined ? 1 : Math.abs(b - a) / Math.abs(a)]
  })
}
