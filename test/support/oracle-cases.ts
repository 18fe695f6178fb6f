/** Models that between them have every layer, activation, option and objective that a backend must get right. */
import type { ModelDescription } from '../../client/volunteer/compute/engine.ts'
import type { Objective } from '../../shared/models.ts'
import type { Layer } from '../../shared/topology.ts'
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
  /** In no template: left away where a step takes seconds. */
  rare?: boolean
}

export type Contrastive = Extract<Objective, { kind: 'contrastive' }>

export const RECONSTRUCT = { objective: { kind: 'reconstruct' } } as const
const FIXED = { trainable: false }

const classifier = (layers: Layer[], inputShape: number[]): ModelDescription =>
  modelOf([...layers, dense('output', 5), activation('softmax')], inputShape)
const images = (...layers: Layer[]) => classifier([...layers, flatten()], [9, 8, 2])
const same = { padding: 'same' }

/** A multilayer perceptron of ten classes or as many as said. */
export const mlp = (hidden: number[], squash: string, inputShape: number[], classes = 10): ModelDescription =>
  modelOf(
    [
      flatten(),
      ...hidden.map((units, i) => dense(`hidden_${i + 1}`, units, squash)),
      ...[dense('output', classes), activation('softmax')],
    ],
    inputShape,
  )
/** LeNet-5 in its modern form. */
export const lenet = (squash: string, inputShape: number[]): ModelDescription =>
  modelOf(
    [
      ...[conv2d('conv_1', 6, 5, squash, same), maxPool('pool_1'), conv2d('conv_2', 16, 5, squash)],
      ...[maxPool('pool_2'), flatten(), dense('dense_1', 120, squash), dense('dense_2', 84, squash)],
      ...[dense('output', 10), activation('softmax')],
    ],
    inputShape,
  )

const RARE = ['relu6', 'selu', 'hardSigmoid', 'softplus', 'softsign', 'swish']

export const cases: readonly Case[] = [
  { name: 'softmax', model: mlp([], '', [6, 6, 1]) },
  { name: 'mlp', model: mlp([33, 17], 'relu', [6, 6, 1]) },
  { name: 'mlp 3-4-2', model: mlp([4], 'sigmoid', [3], 2) },
  { name: 'lenet', model: lenet('relu', [14, 13, 2]) },
  ...['relu', 'elu', 'tanh', 'sigmoid', ...RARE].map((name) => ({
    rare: RARE.includes(name),
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
  ...[
    { steps: 1, persistent: false },
    { steps: 3, persistent: false, below: true },
    { steps: 1, persistent: true, below: true },
    { steps: 2, persistent: true },
    { steps: 3, persistent: false, below: true, samples: true },
    { steps: 2, persistent: true, samples: true },
    { steps: 1, persistent: false, labels: 5 },
    { steps: 2, persistent: true, below: true, labels: 3 },
    { steps: 3, persistent: false, below: true, samples: true, labels: 5 },
  ].flatMap(({ below = false, samples = false, labels = 0, ...how }) =>
    (['sigmoid', 'gaussian'] as const).map((hidden) => ({
      name: [
        `${how.persistent ? 'PCD' : 'CD'}-${how.steps}, ${hidden} units`,
        ...[...(samples ? ['sampled visible ones'] : []), ...(below ? ['a fixed layer below'] : [])],
        ...(labels > 0 ? [`${labels} labels`] : []),
      ].join(', '),
      model: rbm(
        9,
        { kind: 'contrastive', ...how, visible: samples ? 'samples' : 'probabilities', hidden, labels },
        below,
      ),
    })),
  ),
]

/** An RBM of so many hidden units on images of 4×3 pixels, or on the 7 units of a fixed layer above them. */
export function rbm(hidden: number, objective: Contrastive, below = false): ModelDescription {
  const fixed = dense('below', 7, 'sigmoid', FIXED)
  const top = dense('rbm', hidden, objective.hidden === 'gaussian' ? 'linear' : 'sigmoid')
  return modelOf([flatten(), ...(below ? [fixed] : []), top], [4, 3, 1], { objective })
}
