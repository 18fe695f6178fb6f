/**
 * Rows that train a classifier and read what it gets wrong, or right, of the test examples at the last iteration. The
 * rows differ in their spec, their reference and what they are to reach.
 */
import type { RunSpec } from '../../../../shared/run-spec.ts'
import type { Chart } from '../chart.ts'
import { beginning, type Claim, type Row, type Settings, type Trial, valuesOf } from '../row.ts'
import { heldOut, quickened } from '../spec-file.ts'
import { lastStage, testError, trainingCurve } from '../trained-run.ts'

interface Classifier {
  readonly name: string
  readonly title: string
  spec(seed: number, volunteers: number): RunSpec
  readonly shows: 'error' | 'accuracy'
  readonly reference: number | null
  readonly source: string
  readonly reach: number
  readonly aim: number
  /** Settings to choose from, by name. */
  grid(volunteers: number): Readonly<Record<string, RunSpec>>
}

/** A small run keeps two cores busy with two volunteers: the coordinator does little in between. */
const VOLUNTEERS = 2

export function classifierRow(of: Classifier): Row {
  const { name, title, shows, reference, source, reach, aim } = of
  const crowd = ({ volunteers }: Settings) => ({ volunteers: volunteers ?? VOLUNTEERS })
  return {
    name,
    title,
    trials: (settings) =>
      settings.seeds.map((seed) => ({
        name: `seed-${seed}`,
        seed,
        spec: quickened(of.spec(seed, crowd(settings).volunteers), settings),
        crowd: crowd(settings),
      })),
    read: (run) => ({
      figures: { error: testError(run), accuracy: 100 - testError(run) },
      curves: { training: trainingCurve(run, lastStage(run), 'error', 10) },
    }),
    claims: (outcomes): Claim[] => [
      {
        figure: `test ${shows} at the last iteration`,
        unit: ' %',
        values: valuesOf(beginning(outcomes, 'seed-'), shows),
        better: shows === 'error' ? 'lower' : 'higher',
        ...{ reference, source, reach, aim },
      },
    ],
    charts: (outcomes) => [errorChart(of, outcomes)],
    choices: (settings) => ({
      decides: 'error',
      trials: Object.entries(of.grid(crowd(settings).volunteers)).map(
        ([named, spec]): Trial => ({
          name: `choose-${named}`,
          seed: spec.seed,
          spec: quickened(heldOut(spec), settings),
          crowd: crowd(settings),
        }),
      ),
    }),
  }
}

/** Training errors along the epochs, and the test errors where they end. */
function errorChart({ title, shows, reference, reach }: Classifier, outcomes: Parameters<Row['charts']>[0]): Chart {
  const all = beginning(outcomes, 'seed-')
  const asError = (value: number) => (shows === 'error' ? value : 100 - value)
  const epochs = (at: number) => all[at].spec.stop.epochs
  return {
    title,
    x: { label: 'epoch', from: 0 },
    y: { label: 'error, % (logarithmic)', logarithmic: true },
    curves: [
      ...all.map(({ curves, seed }, i) => ({
        name: `training, seed ${seed}`,
        // On a logarithmic axis nothing at all is nowhere.
        points: curves.training.filter(([, error]) => error > 0),
        colour: i,
      })),
      {
        name: 'test, last iteration',
        points: all.map(({ figures }, i) => [epochs(i), figures.error] as const),
        as: 'dots' as const,
        colour: all.length,
      },
    ],
    levels: [
      ...(reference === null ? [] : [{ name: `reference ${reference} %`, at: asError(reference) }]),
      { name: `reach ${reach} %`, at: asError(reach) },
    ],
  }
}
