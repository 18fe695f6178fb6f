/**
 * The greedy phase of the DBN: reconstruction errors of its three RBMs against those of a plain port of rbm.m. The
 * mean over the training examples of an epoch as they were trained on, Σ(v - v₁)² a case. It reads the DBN's runs.
 */
import { beginning, type Claim, type Row, valuesOf } from '../row.ts'
import { trainingCurve } from '../trained-run.ts'
import { dbn } from './dbn.ts'

/** ALGORITHMS §2.6: errors of epochs 1, 5 and 10. */
const REFERENCE = [
  { layer: '784-500', errors: [14.8, 7.5, 7.0] },
  { layer: '500-500', errors: [16.8, 9.0, 6.0] },
  { layer: '500-2000', errors: [10.1, 5.5, 4.6] },
]
const REFERENCE_EPOCHS = [1, 5, 10]
const TOLERANCE = 0.05

export const rbm: Row = {
  name: 'rbm',
  title: 'RBMs by CD-1 after 10 epochs',
  trials: (settings) =>
    dbn.trials(settings).map((trial) => ({ ...trial, sharedWith: { row: dbn.name, trial: trial.name } })),
  read(run) {
    const curves = REFERENCE.map(({ layer }, stage) => [layer, trainingCurve(run, stage, 'loss', 1)] as const)
    return {
      figures: Object.fromEntries(curves.map(([layer, curve]) => [layer, curve[curve.length - 1][1]])),
      curves: Object.fromEntries(curves),
    }
  },
  claims: (outcomes): Claim[] =>
    REFERENCE.map(({ layer, errors }) => ({
      figure: `reconstruction error of ${layer}`,
      unit: '',
      values: valuesOf(beginning(outcomes, 'seed-'), layer),
      reference: errors[errors.length - 1],
      source: "rbm.m's schedule, numpy, measured",
      better: 'near',
      reach: TOLERANCE,
      aim: null,
    })),
  charts: (outcomes) => [
    {
      title: 'Reconstruction error of the training examples, Σ(v − v₁)² a case',
      x: { label: 'epoch of the layer', from: 0 },
      y: { label: 'error', from: 0 },
      curves: REFERENCE.flatMap(({ layer, errors }, colour) => [
        ...beginning(outcomes, 'seed-').map(({ curves }) => ({ name: layer, points: curves[layer], colour })),
        {
          name: `${layer}, reference`,
          points: errors.map((error, i) => [REFERENCE_EPOCHS[i], error] as const),
          as: 'dots' as const,
          colour,
        },
      ]),
    },
  ],
}
