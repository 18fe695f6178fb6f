/** Networks that between them have every layer, activation, option and objective that a backend must get right. */
import type { ModelDescription } from '../../client/volunteer/compute/engine.ts'
import type { Layer } from '../../shared/models.ts'
import {
  activation,
  averagePool,
  conv2d,
  dense,
  depthwise,
  dropout,
  flatten,
  maxPool,
  modelOf,
} from './oracle-models.ts'

interface Case {
  name: string
  model: ModelDescription
  /** Another one where the usual draws come too near a kink. */
  seed?: number
}

export const RECONSTRUCT = { objective: { kind: 'reconstruct' } } as const
const FIXED = { trainable: false }

const classifier = (layers: Layer[], inputShape: number[]): ModelDescription =>
  modelOf([...layers, dense('output', 5), activation('softmax')], inputShape)
const images = (...layers: Layer[]) => classifier([...layers, flatten()], [9, 8, 2])
const same = { padding: 'same' }

const ACTIVATIONS = [
  ...['relu', 'relu6', 'elu', 'selu', 'tanh', 'sigmoid', 'hardSigmoid', 'softplus', 'softsign', 'swish'],
]

export const cases: readonly Case[] = [
  ...ACTIVATIONS.map((name) => ({
    name: `${name} in Dense and Conv2D layers and of its own`,
    model: classifier([conv2d('a', 3, 2, name), activation('b', name), flatten(), dense('c', 7, name)], [9, 8, 2]),
  })),
  {
    name: 'dropout of inputs and of hidden units',
    model: classifier([dropout('d', 0.2), dense('a', 12, 'relu'), dropout('e', 0.5), dense('b', 8, 'tanh')], [11]),
  },
  {
    name: 'dropout of convolved maps, and one that drops nothing',
    model: images(conv2d('a', 3, 3, 'elu'), dropout('d', 0), maxPool('p'), dropout('e', 0.25)),
  },
  { name: 'average pooling', model: images(conv2d('a', 3, 2, 'tanh'), averagePool('p')) },
  {
    name: 'average pooling that overlaps and reaches over the edge',
    model: images(averagePool('p', 3, 2, 'same'), conv2d('a', 3, 2, 'tanh')),
  },
  {
    name: 'max pooling that overlaps and reaches over the edge',
    model: images(maxPool('p', 3, 2, 'same'), conv2d('a', 3, 2, 'tanh'), maxPool('q', 2, 1)),
  },
  {
    name: 'a trainable subsampling (average, coefficient, bias)',
    model: images(conv2d('a', 4, 2, 'tanh', same), averagePool('p'), depthwise('s', 1, 'tanh')),
  },
  {
    name: 'depthwise convolutions',
    model: images(
      depthwise('a', 3, 'tanh', { ...same, depth_multiplier: 2 }),
      depthwise('b', 2, 'sigmoid', { strides: [2, 2] }),
      conv2d('c', 3, 1),
    ),
  },
  {
    name: 'a depthwise convolution without a bias',
    model: images(depthwise('a', 2, 'elu', { use_bias: false })),
  },
  {
    name: 'a table of connections',
    model: images(
      conv2d('a', 4, 2, 'tanh'),
      conv2d('b', 3, 3, 'tanh', { connections: [[0, 1], [1, 2, 3], [3]] }),
      conv2d('c', 2, 2, 'tanh', { connections: [[0, 1, 2], []] }),
    ),
  },
  {
    name: 'fixed layers below',
    model: images(conv2d('a', 3, 2, 'tanh', FIXED), averagePool('p'), conv2d('b', 3, 2, 'tanh')),
  },
  {
    name: 'a fixed layer between, and one at the end',
    model: modelOf(
      [
        ...[dense('a', 6, 'tanh'), dropout('d', 0.3), dense('b', 6, 'tanh', FIXED), dense('c', 6, 'sigmoid')],
        ...[dense('output', 4, 'linear', FIXED), activation('softmax')],
      ],
      [7],
    ),
  },
  {
    name: 'strides and unequal padding',
    model: images(conv2d('a', 3, 3, 'tanh', { ...same, strides: [2, 2] }), conv2d('b', 3, 2, 'sigmoid', same)),
  },
  {
    name: 'an autoencoder',
    model: modelOf(
      [flatten(), dense('a', 9, 'sigmoid'), dense('code', 4), dense('b', 9, 'sigmoid'), dense('c', 24)].concat(
        activation('sigmoid'),
      ),
      [4, 3, 2],
      RECONSTRUCT,
    ),
  },
  {
    name: 'a convolutional autoencoder with dropout',
    model: modelOf(
      [conv2d('a', 5, 3, 'tanh', same), dropout('d', 0.2), conv2d('b', 2, 3, 'linear', same), activation('sigmoid')],
      [5, 4, 2],
      RECONSTRUCT,
    ),
  },
]
