/**
 * Class samples (ALGORITHMS §2, Verify): what a stack of RBMs that has seen images and labels together takes each digit
 * to look like, and how many of its samples a LeNet-5 that was trained on real digits takes for their class.
 */
import { frameOf, GAP, PAPER } from '../../../../coordinator/pictures/contact-sheet.ts'
import { forward } from '../../../../coordinator/pictures/forward.ts'
import { type ImageShape, imageShape, Raster } from '../../../../coordinator/pictures/raster.ts'
import { decoder, rbms } from '../../../../shared/stack.ts'
import { type ClassSamples, sampleClasses, takenFor } from '../class-samples.ts'
import { beginning, type Claim, type Reading, type Row, type Settings, type Trial, valuesOf } from '../row.ts'
import { quickened, specOf } from '../spec-file.ts'
import { lastStage, lastTest, type TrainedRun, trainingCurve } from '../trained-run.ts'
import { lenet } from './lenet.ts'

/** Of each class. */
const CHAINS = { each: 50, steps: 3000 }
/** A smoke test's. */
const FEW = { each: 5, steps: 20 }
/** Of each class, on the sheet. */
const SHOWN = 10

/** Persistent chains are a volunteer's own, and the spec's batch is one volunteer's. */
const stackTrial = (seed: number, settings: Settings): Trial => ({
  name: `seed-${seed}`,
  seed,
  spec: quickened(specOf('generative', { seed }), settings),
  crowd: { volunteers: settings.volunteers ?? 1 },
})
/** The network that judges: that of row `lenet`, of the same seed. */
const judges = (settings: Settings): Trial[] =>
  lenet.trials(settings).map((trial) => ({
    ...trial,
    name: `judge-${trial.seed}`,
    sharedWith: { row: lenet.name, trial: trial.name },
  }))

export const generated: Row = {
  name: 'generated',
  together: true,
  title: 'Class samples of a stack of RBMs with labels',
  trials: (settings) => [...judges(settings), ...settings.seeds.map((seed) => stackTrial(seed, settings))],
  async read(run, trial, sibling): Promise<Reading> {
    if (trial.name.startsWith('judge')) return { figures: {}, curves: {} }
    const top = rbms(run.spec.model, run.dataset, [...run.stack, run.parameters]).at(-1)!
    const chains = run.trainExamples < 10_000 ? FEW : CHAINS
    const samples = drawn(await sampleClasses(top, { ...chains, seed: trial.seed }), run)
    const right = await takenFor(samples, sibling(`judge-${trial.seed}`))
    return {
      figures: { right: (100 * right) / samples.labels.length, error: 100 * (1 - lastTest(run).accuracy) },
      curves: { top: trainingCurve(run, lastStage(run), 'loss', 1) },
      pictures: { samples: sheet(samples, imageShape(run.dataset.inputShape)!) },
    }
  },
  claims: (outcomes): Claim[] => {
    const values = (figure: string) => valuesOf(beginning(outcomes, 'seed-'), figure)
    return [
      {
        ...{ figure: 'class samples that LeNet-5 takes for their class', unit: ' %', values: values('right') },
        ...{ reference: 90, source: 'ALGORITHMS §2, Verify', better: 'higher', reach: 90, aim: null },
      },
      {
        figure: 'test error of the stack itself, by free energy',
        unit: ' %',
        values: values('error'),
        ...{ reference: 2.49, source: 'Hinton, Osindero & Teh 2006, the greedy phase', better: 'lower' },
        ...{ reach: null, aim: null },
      },
    ]
  },
  remarks: () => [
    `Samples of the last seed's stack are in plots/generated-samples.png, a row a class; chains of ${CHAINS.steps} steps.`,
  ],
  charts: (outcomes) => [
    {
      title: 'Reconstruction error of the top machine, features and label, Σ(v − v₁)² a case',
      x: { label: 'epoch of the layer', from: 0 },
      y: { label: 'error', from: 0 },
      curves: beginning(outcomes, 'seed-').map(({ curves, seed }, colour) => ({
        name: `seed ${seed}`,
        points: curves.top,
        colour,
      })),
    },
  ],
}

/** The images that features of the top machine are, down through the machines below it. */
export function drawn({ values, labels }: ClassSamples, { spec, dataset, stack }: TrainedRun): ClassSamples {
  const down = decoder(spec.model, dataset, { stack })
  const features = values.length / labels.length
  const images = Array.from(labels, (_, i) => [
    ...forward(down, Float64Array.from(values.subarray(i * features, (i + 1) * features))),
  ])
  return { values: Float32Array.from(images.flat()), labels }
}

/** The first samples of each class, a row a class. */
function sheet({ values, labels }: ClassSamples, shape: ImageShape): Uint8Array {
  const pixels = values.length / labels.length
  const each = labels.lastIndexOf(0) + 1
  const shown = Math.min(SHOWN, each)
  const { scale, width, height } = frameOf(shape)
  const rows = labels.length / each
  const raster = new Raster(shown * (width + GAP) + GAP, rows * (height + GAP) + GAP, PAPER)
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < shown; column++) {
      const at = (row * each + column) * pixels
      const bytes = Float64Array.from(values.subarray(at, at + pixels), (pixel) => 255 * pixel)
      raster.image(GAP + column * (width + GAP), GAP + row * (height + GAP), bytes, shape, scale)
    }
  }
  return raster.png()
}
