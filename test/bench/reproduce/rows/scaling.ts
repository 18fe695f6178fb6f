/**
 * Scaling with the crowd: the DBN's fine-tuning net, synchronously, by 1, 2, 3, 4 and 16 volunteers of one fixed pace.
 * Every batch is cut into as many equal portions as there are volunteers, so all runs take the same steps on the same
 * examples.
 *
 * Speed: of the steps after the first WARM_UP, examples accepted over the time from the last acceptance of the warm-up
 * to the last one of the run; speed-up: that over one volunteer's. Starting, connecting and the first downloads are
 * in the warm-up; everything else counts. The pace stands for a device; how much of a step is not compute is said by
 * the fit T(n) = a/n + b·n, which is the slide's form.
 */
import type { RunSpec } from '../../../../shared/run-spec.ts'
import { beginning, type Claim, meanOf, type Outcomes, type Row, type Settings, valuesOf } from '../row.ts'
import { specOf } from '../spec-file.ts'
import { lastStage, lastTest, trainingCurve } from '../trained-run.ts'
import { portions } from './portions.ts'

const CROWDS = [1, 2, 3, 4, 16]
/** The slide: 255, 150, 130, 125 s. */
const REFERENCE: Record<number, number> = { 2: 1.7, 3: 1.96, 4: 2.04 }
const REACH: Record<number, number> = { 2: 1.9, 3: 2.8, 4: 3.7 }
const AIM: Record<number, number> = { 2: 1.98, 3: 2.95, 4: 3.9 }
/** Final losses may differ by so much. */
const LOSS_TOLERANCE = 0.02
/** 48 times 40: every crowd divides it. An epoch is 20 steps. */
const BATCH = 1920
const STEPS = 20
const WARM_UP = 3
/** Examples a second. 16 such volunteers compute for half of one core; see CPU times in RESULTS.md. */
const PACE = 100

const spec = (seed: number, volunteers: number, { quick }: Settings): RunSpec =>
  specOf('dbn', {
    seed,
    dataset: quick ? { train: 2 * 96, test: 200 } : { train: BATCH * STEPS },
    pretrain: undefined,
    strategy: portions(quick ? 96 : BATCH, volunteers),
    updateRule: { name: 'adam', rate: 0.001 },
    schedule: { shape: 'constant', hold: 0 },
    codec: { up: 'int8', down: 'f16' },
    stop: { epochs: 1 },
  })

const named = (volunteers: number) => `volunteers-${volunteers}-`

export const scaling: Row = {
  name: 'scaling',
  title: `Scaling: synchronous, batches of ${BATCH}, volunteers of ${PACE} examples/s`,
  trials: (settings) =>
    settings.seeds.flatMap((seed) =>
      CROWDS.map((volunteers) => ({
        name: `${named(volunteers)}seed-${seed}`,
        seed,
        spec: spec(seed, volunteers, settings),
        crowd: { volunteers, measured: { pace: PACE } },
      })),
    ),
  read(run, { crowd: { volunteers }, spec: { strategy } }) {
    const batch = 'batchSize' in strategy ? strategy.batchSize : BATCH
    const warm = Math.max(1, Math.min(WARM_UP, Math.floor(run.trainExamples / batch) - 1)) * batch
    const from = run.updates.find(({ counted }) => counted >= warm)!
    const to = run.updates[run.updates.length - 1]
    const seconds = (to.at - from.at) / 1000
    const examples = to.counted - from.counted
    const steps = examples / batch
    const computing = run.updates.filter(({ counted }) => counted > from.counted).map(({ computeMs }) => computeMs)
    return {
      figures: {
        speed: examples / seconds,
        secondsAStep: seconds / steps,
        /** Share of the volunteers' time that was paced compute. */
        efficiency: computing.reduce((sum, ms) => sum + ms, 0) / 1000 / (volunteers * seconds),
        testLoss: lastTest(run).loss,
        testError: 100 * (1 - lastTest(run).accuracy),
      },
      curves: { training: trainingCurve(run, lastStage(run), 'loss', Math.floor(run.trainExamples / batch)) },
    }
  },
  claims: (outcomes): Claim[] => [
    ...CROWDS.slice(1).map(
      (volunteers): Claim => ({
        figure: `speed-up with ${volunteers} volunteers`,
        unit: '×',
        values: speedUps(outcomes, volunteers),
        reference: REFERENCE[volunteers] ?? null,
        source: "the seed's slide, Spark",
        better: 'higher',
        reach: REACH[volunteers] ?? null,
        aim: AIM[volunteers] ?? null,
      }),
    ),
    {
      figure: 'largest relative difference of the final test loss to one volunteer',
      unit: '',
      values: CROWDS.slice(1).flatMap((volunteers) => lossDifferences(outcomes, volunteers)),
      reference: null,
      source: 'equal work',
      better: 'lower',
      reach: LOSS_TOLERANCE,
      aim: null,
      judged: 'worst',
    },
  ],
  remarks(outcomes) {
    const times = stepTimes(outcomes)
    const { a, b, worst } = fitted(times)
    const least = b > 0 ? ` and is least at n = ${Math.sqrt(a / b).toFixed(1)}` : ''
    return [
      `Seconds a step: ${times.map(([n, seconds]) => `${seconds.toFixed(3)} with ${n}`).join(', ')}.`,
      `T(n) = ${a.toPrecision(3)}/n + ${b.toPrecision(2)}·n s fits them within ${(100 * worst).toFixed(1)} %${least}; the slide's 238/n + 16.4·n at n = 3.8.`,
      `Of the volunteers' time, compute at their pace: ${CROWDS.map((n) => `${Math.round(100 * meanOf(valuesOf(beginning(outcomes, named(n)), 'efficiency')))} % with ${n}`).join(', ')}.`,
    ]
  },
  charts(outcomes) {
    const { a, b } = fitted(stepTimes(outcomes))
    const most = CROWDS[CROWDS.length - 1]
    const along = Array.from({ length: 4 * most - 3 }, (_, i) => 1 + i / 4)
    return [
      {
        title: 'Speed-up over one volunteer of the same pace',
        x: { label: 'volunteers', logarithmic: true, from: 1, to: most, ticks: CROWDS },
        y: { label: 'speed-up', logarithmic: true, from: 1, to: most, ticks: CROWDS },
        curves: [
          { name: 'as many times as fast', points: along.map((n) => [n, n] as const), as: 'dashes' },
          { name: 'T(1)/T(n) of the fit', points: along.map((n) => [n, (a + b) / (a / n + b * n)] as const) },
          {
            name: 'measured',
            points: CROWDS.map((n) => [n, meanOf(speedUps(outcomes, n))] as const),
            spread: CROWDS.map(
              (n) => [Math.min(...speedUps(outcomes, n)), Math.max(...speedUps(outcomes, n))] as const,
            ),
            as: 'dots',
          },
          {
            name: "the seed's slide",
            points: [[1, 1], ...Object.entries(REFERENCE).map(([n, value]) => [Number(n), value] as const)],
            as: 'dots',
          },
        ],
      },
      {
        title: 'Training loss: the crowds take the same steps',
        x: { label: 'epoch', from: 0 },
        y: { label: 'loss' },
        curves: [...outcomes.values()].map(({ curves, volunteers }) => ({
          name: `${volunteers} volunteers`,
          points: curves.training,
          colour: CROWDS.indexOf(volunteers),
        })),
      },
    ]
  },
}

/** By seed, against the single volunteer of that seed. */
function speedUps(outcomes: Outcomes, volunteers: number): number[] {
  const alone = valuesOf(beginning(outcomes, named(1)), 'speed')
  return valuesOf(beginning(outcomes, named(volunteers)), 'speed').map((speed, i) => speed / alone[i])
}

function lossDifferences(outcomes: Outcomes, volunteers: number): number[] {
  const alone = valuesOf(beginning(outcomes, named(1)), 'testLoss')
  return valuesOf(beginning(outcomes, named(volunteers)), 'testLoss').map((loss, i) => Math.abs(loss / alone[i] - 1))
}

const stepTimes = (outcomes: Outcomes) =>
  CROWDS.map((n) => [n, meanOf(valuesOf(beginning(outcomes, named(n)), 'secondsAStep'))] as const)

/** Least squares of a/n + b·n, each time's residual relative to itself. */
export function fitted(times: readonly (readonly [n: number, seconds: number])[]): {
  a: number
  b: number
  worst: number
} {
  let [pp, pq, qq, p1, q1] = [0, 0, 0, 0, 0]
  for (const [n, seconds] of times) {
    const [p, q] = [1 / n / seconds, n / seconds]
    pp += p * p
    pq += p * q
    qq += q * q
    p1 += p
    q1 += q
  }
  const determinant = pp * qq - pq * pq
  const a = (p1 * qq - q1 * pq) / determinant
  const b = (q1 * pp - p1 * pq) / determinant
  const worst = Math.max(...times.map(([n, seconds]) => Math.abs((a / n + b * n) / seconds - 1)))
  return { a, b, worst }
}
