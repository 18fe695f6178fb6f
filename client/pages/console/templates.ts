/**
 * The runs an operator can start from: the RunSpecs of runs/, which the command line trains as well, and what to
 * expect.
 */
import autoencoder from '../../../runs/autoencoder.json'
import cnn from '../../../runs/cnn.json'
import dbn from '../../../runs/dbn.json'
import dropout from '../../../runs/dropout.json'
import generative from '../../../runs/generative.json'
import lbfgs from '../../../runs/lbfgs.json'
import lenet from '../../../runs/lenet.json'
import mlp from '../../../runs/mlp.json'
import rbm from '../../../runs/rbm.json'
import softmax from '../../../runs/softmax.json'

export interface Template {
  title: string
  words: string
  spec: object
}

export const TEMPLATES: Template[] = [
  {
    title: 'Softmax',
    words: 'One layer, 7,850 parameters. Reads about 92 of 100 digits, soon: good for a first try.',
    spec: softmax,
  },
  {
    title: 'Multilayer perceptron',
    words: 'Two hidden layers, 535,818 parameters, by Downpour SGD. Reads about 98 of 100.',
    spec: mlp,
  },
  {
    title: 'LeNet-5',
    words: 'A small convolutional network, 61,706 parameters. Reads about 99 of 100.',
    spec: lenet,
  },
  {
    title: 'CNN',
    words: 'Four convolutions and dropout, on digits that are shifted, turned and zoomed. Keeps devices busy.',
    spec: cnn,
  },
  {
    title: 'Dropout',
    words: 'Three hidden layers of 1,024 units, half of them dropped at random at each step.',
    spec: dropout,
  },
  {
    title: 'L-BFGS',
    words: "Spark's multilayer perceptron: whole passes over the data, and few, well-chosen steps.",
    spec: lbfgs,
  },
  {
    title: 'RBM',
    words: '500 units that learn strokes without labels, by contrastive divergence.',
    spec: rbm,
  },
  {
    title: 'Images and labels',
    words: 'Two RBMs, the upper one of which sees the labels too, and tells a digit by its free energy.',
    spec: generative,
  },
  {
    title: 'Deep belief network',
    words: 'Three RBMs trained one after the other, then a classifier fine-tuned from them.',
    spec: dbn,
  },
  {
    title: 'Deep autoencoder',
    words: 'Squeezes a digit into 30 numbers and draws it again: four RBMs, then the whole network.',
    spec: autoencoder,
  },
]
