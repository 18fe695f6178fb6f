/**
 * The deep autoencoder 784-1000-500-250-30: four RBMs, then the unrolled network; squared error an image on the test
 * images at the last iteration.
 */
import type { RunSpec } from '../../../../shared/run-spec.ts'
import { beginning, CHOICE_SEED, type Claim, type Row, type Settings, valuesOf } from '../row.ts'
import { heldOut, quickened, specOf } from '../spec-file.ts'
import { lastStage, lastTest, trainingCurve } from '../trained-run.ts'
import { portions } from './portions.ts'

const BATCH = 120
const VOLUNTEERS = 2
const REFERENCE = 4.5
const REACH = 6
const AIM = 4.5

const spec = (seed: number, volunteers: number, rate?: number): RunSpec =>
  specOf('autoencoder', {
    seed,
    strategy: portions(BATCH, volunteers),
    ...(rate === undefined ? {} : { updateRule: { name: 'adam', rate } }),
    pretrain: { strategy: portions(100, volunteers) },
  })
const crowd = ({ volunteers }: Settings) => ({ volunteers: volunteers ?? VOLUNTEERS })

export const autoencoder: Row = {
  name: 'autoencoder',
  title: 'Deep autoencoder 784-1000-500-250-30',
  trials: (settings) =>
    settings.seeds.map((seed) => ({
      name: `seed-${seed}`,
      seed,
      spec: quickened(spec(seed, crowd(settings).volunteers), settings),
      crowd: crowd(settings),
    })),
  read: (run) => ({
    figures: { squaredError: lastTest(run).measure ?? Number.NaN, crossEntropy: lastTest(run).loss },
    curves: { training: trainingCurve(run, lastStage(run), 'loss', 4) },
  }),
  claims: (outcomes): Claim[] => [
    {
      figure: 'mean squared error a test image, Σ(x − x̂)²',
      unit: '',
      values: valuesOf(beginning(outcomes, 'seed-'), 'squaredError'),
      reference: REFERENCE,
      source: "the same net after 35 epochs of Hinton's code; 3.00 on the paper's sample, PCA 13.9",
      better: 'lower',
      reach: REACH,
      aim: AIM,
    },
  ],
  charts: (outcomes) => {
    const all = beginning(outcomes, 'seed-')
    return [
      {
        title: 'Cross-entropy an image while the unrolled network is trained',
        x: { label: 'epoch', from: 0 },
        y: { label: 'cross-entropy, nats' },
        curves: [
          ...all.map(({ seed, curves }) => ({ name: `training, seed ${seed}`, points: curves.training })),
          {
            name: 'test, last iteration',
            points: all.map(({ spec, figures }) => [spec.stop.epochs, figures.crossEntropy] as const),
            as: 'dots' as const,
          },
        ],
      },
    ]
  },
  choices: (settings) => ({
    decides: 'squaredError',
    trials: [0.0005, 0.001, 0.002].map((rate) => ({
      name: `choose-rate-${rate}`,
      seed: CHOICE_SEED,
      spec: quickened(heldOut(spec(CHOICE_SEED, crowd(settings).volunteers, rate)), settings),
      crowd: crowd(settings),
    })),
  }),
}
