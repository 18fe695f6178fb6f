/**
 * Rows that measure how much faster a larger crowd is: one net, trained synchronously by crowds of several sizes, every
 * volunteer of one fixed pace. Every step is cut into as many equal portions as there are volunteers, so all runs take
 * the same steps on the same examples. The rows differ in their spec, their reference and what they are to reach.
 *
 * Speed: of the steps after the warm-up, examples accepted over the time from the last acceptance of the warm-up to the
 * last one of the run; speed-up: that over one volunteer's. Starting, connecting and the first downloads are in the
 * warm-up; everything else counts. The pace stands for a device; how much of a step is not compute is said by the fit
 * T(n) = a/n + b·n.
 */
import type { RunSpec } from '../../../../shared/run-spec.ts'
import { beginning, type Claim, meanOf, type Outcomes, type Row, type Settings, valuesOf } from '../row.ts'
import { lastStage, lastTest, trainingCurve } from '../trained-run.ts'

interface SpeedUp {
  readonly name: string
  readonly title: string
  spec(seed: number, volunteers: number, settings: Settings): RunSpec
  /** The first one is a single volunteer, that the others are held against. */
  readonly crowds: readonly number[]
  /** Steps that do not count. */
  readonly warmUp: number
  /** Examples a second of each volunteer. */
  readonly pace: number
  /** Speed-ups by volunteers. */
  readonly reference: Readonly<Record<number, number>>
  readonly source: string
  readonly reach: Readonly<Record<number, number>>
  readonly aim: Readonly<Record<number, number>>
  /** What the fit is compared with, in words. */
  readonly otherFit: string
}

/** Final losses may differ by so much. */
const LOSS_TOLERANCE = 0.02

const named = (volunteers: number) => `volunteers-${volunteers}-`

export function speedUpRow(of: SpeedUp): Row {
  const { name, title, crowds, warmUp, pace, reference, source, reach, aim, otherFit } = of
  const times = (outcomes: Outcomes) => stepTimes(outcomes, crowds)
  return {
    name,
    title,
    trials: (settings) =>
      settings.seeds.flatMap((seed) =>
        crowds.map((volunteers) => ({
          name: `${named(volunteers)}seed-${seed}`,
          seed,
          spec: of.spec(seed, volunteers, settings),
          crowd: { volunteers, measured: { pace } },
        })),
      ),
    read(run, { crowd: { volunteers }, spec: { strategy } }) {
      // Where there is no batch a step is a pass over all examples.
      const batch = strategy.name === 'synchronous' ? strategy.batchSize : run.trainExamples
      const all = run.updates[run.updates.length - 1].counted
      const warm = Math.max(1, Math.min(warmUp, Math.floor(all / batch) - 1)) * batch
      const from = run.updates.find(({ counted }) => counted >= warm)!
      const to = run.updates[run.updates.length - 1]
      const seconds = (to.at - from.at) / 1000
      const examples = to.counted - from.counted
      const computing = run.updates.filter(({ counted }) => counted > from.counted).map(({ computeMs }) => computeMs)
      return {
        figures: {
          speed: examples / seconds,
          secondsAStep: (seconds * batch) / examples,
          /** Share of the volunteers' time that was paced compute. */
          efficiency: computing.reduce((sum, ms) => sum + ms, 0) / 1000 / (volunteers * seconds),
          testLoss: lastTest(run).loss,
          testError: 100 * (1 - lastTest(run).accuracy),
        },
        curves: { training: trainingCurve(run, lastStage(run), 'loss', Math.floor(run.trainExamples / batch)) },
      }
    },
    claims: (outcomes): Claim[] => [
      ...crowds.slice(1).map(
        (volunteers): Claim => ({
          figure: `speed-up with ${volunteers} volunteers`,
          unit: '×',
          values: speedUps(outcomes, volunteers),
          reference: reference[volunteers] ?? null,
          source,
          better: 'higher',
          reach: reach[volunteers] ?? null,
          aim: aim[volunteers] ?? null,
        }),
      ),
      {
        figure: 'largest relative difference of the final test loss to one volunteer',
        unit: '',
        values: crowds.slice(1).flatMap((volunteers) => lossDifferences(outcomes, volunteers)),
        reference: null,
        source: 'equal work',
        better: 'lower',
        reach: LOSS_TOLERANCE,
        aim: null,
        judged: 'worst',
      },
    ],
    remarks(outcomes) {
      const { a, b, worst } = fitted(times(outcomes))
      const least = b > 0 ? ` and is least at n = ${Math.sqrt(a / b).toFixed(1)}` : ''
      const share = (n: number) => Math.round(100 * meanOf(valuesOf(beginning(outcomes, named(n)), 'efficiency')))
      return [
        `Seconds a step: ${times(outcomes)
          .map(([n, seconds]) => `${seconds.toFixed(3)} with ${n}`)
          .join(', ')}.`,
        `T(n) = ${a.toPrecision(3)}/n + ${b.toPrecision(2)}·n s fits them within ${(100 * worst).toFixed(1)} %${least}; ${otherFit}.`,
        `Of the volunteers' time, compute at their pace: ${crowds.map((n) => `${share(n)} % with ${n}`).join(', ')}.`,
      ]
    },
    charts(outcomes) {
      const { a, b } = fitted(times(outcomes))
      const most = crowds[crowds.length - 1]
      const along = Array.from({ length: 4 * most - 3 }, (_, i) => 1 + i / 4)
      return [
        {
          title: 'Speed-up over one volunteer of the same pace',
          x: { label: 'volunteers', logarithmic: true, from: 1, to: most, ticks: crowds },
          y: { label: 'speed-up', logarithmic: true, from: 1, to: most, ticks: crowds },
          curves: [
            { name: 'as many times as fast', points: along.map((n) => [n, n] as const), as: 'dashes' },
            { name: 'T(1)/T(n) of the fit', points: along.map((n) => [n, (a + b) / (a / n + b * n)] as const) },
            {
              name: 'measured',
              points: crowds.map((n) => [n, meanOf(speedUps(outcomes, n))] as const),
              spread: crowds.map(
                (n) => [Math.min(...speedUps(outcomes, n)), Math.max(...speedUps(outcomes, n))] as const,
              ),
              as: 'dots',
            },
            {
              name: source,
              points: [[1, 1], ...Object.entries(reference).map(([n, value]) => [Number(n), value] as const)],
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
            colour: crowds.indexOf(volunteers),
          })),
        },
      ]
    },
  }
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

const stepTimes = (outcomes: Outcomes, crowds: readonly number[]) =>
  crowds.map((n) => [n, meanOf(valuesOf(beginning(outcomes, named(n)), 'secondsAStep'))] as const)

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
