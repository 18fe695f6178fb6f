/** The runs an operator can start from: a few decisions each, the rest are the RunSpec's own defaults. */

export interface Template {
  id: 'softmax' | 'mlp' | 'lenet'
  title: string
  words: string
  spec: object
}

export const TEMPLATES: Template[] = [
  {
    id: 'softmax',
    title: 'Softmax',
    words: 'One layer, 7,850 parameters. Reads about 92 of 100 digits, soon: good for a first try.',
    spec: {
      name: 'Digits, softmax',
      dataset: { name: 'mnist' },
      model: { template: 'softmax' },
      stop: { epochs: 5 },
      evaluateEveryEpochs: 0.25,
    },
  },
  {
    id: 'mlp',
    title: 'Multilayer perceptron',
    words: 'Two hidden layers of 256 and 128 units, 235,146 parameters. Reads about 98 of 100.',
    spec: {
      name: 'Digits, perceptron',
      dataset: { name: 'mnist' },
      model: { template: 'mlp', hidden: [256, 128] },
      stop: { epochs: 10 },
      evaluateEveryEpochs: 0.5,
    },
  },
  {
    id: 'lenet',
    title: 'LeNet-5',
    words: 'A small convolutional network, 61,706 parameters. Reads about 99 of 100 and keeps devices busier.',
    spec: {
      name: 'Digits, LeNet-5',
      dataset: { name: 'mnist' },
      model: { template: 'lenet' },
      stop: { epochs: 10 },
      evaluateEveryEpochs: 0.5,
    },
  },
]
