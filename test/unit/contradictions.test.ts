/**
 * What the parts of a RunSpec, each right by itself, cannot be together: refused with the reason and what to write
 * instead.
 */
import { describe, expect, test } from 'vitest'
import { misfit } from '../../shared/contradictions.ts'
import { LABELLED, parsed, problems, smallest } from '../support/written-specs.ts'

describe('a RunSpec', () => {
  test.each<[string, object, Record<string, unknown>]>([
    [
      'labels that no file has',
      {
        dataset: { name: 'idx', trainInputs: 'a', testInputs: 'b', trainLabels: 'c' },
        model: { template: 'rbm', hidden: [5], labels: true },
        ...{ strategy: undefined, updateRule: undefined, codec: undefined },
      },
      {
        'dataset.testLabels':
          'template rbm classifies, so it needs the labels: expected the path of an IDX file, got nothing',
      },
    ],
    [
      'pre-training what has no dense layers',
      { model: { template: 'cnn' }, pretrain: {} },
      {
        pretrain:
          'contrastive divergence trains stacks of dense layers, which template cnn has not: ' +
          'use template mlp with activation sigmoid, autoencoder or rbm, or remove pretrain',
      },
    ],
    [
      'pre-training layers that are not sigmoid',
      { model: { template: 'mlp' }, pretrain: {} },
      {
        'model.activation':
          'pretrain makes layers of sigmoid units, got relu: use activation sigmoid, or remove pretrain',
      },
    ],
    [
      'a line search where there is no loss',
      { model: { template: 'autoencoder' }, pretrain: { strategy: { name: 'sandblaster' } } },
      {
        'pretrain.strategy.name':
          'contrastive divergence has no loss that sandblaster could search on: use strategy synchronous or downpour',
      },
    ],
    [
      'a portion larger than its batch in pre-training',
      { model: { template: 'autoencoder' }, pretrain: { strategy: { name: 'synchronous', batchSize: 50 } } },
      { 'pretrain.strategy.portionSize': 'expected at most batchSize (50), got 64' },
    ],
    [
      'an edged loss for L-BFGS',
      { strategy: { name: 'sandblaster', l1: 0.1 } },
      { 'strategy.l1': 'plain L-BFGS needs a smooth loss: use strategy gradient-descent with updater l1, or l2' },
    ],
    [
      'chance in a loss that is compared',
      {
        strategy: { name: 'gradient-descent' },
        model: { template: 'cnn', dropout: { dense: 0 } },
        augment: { flip: true },
        codec: { up: 'int8' },
      },
      {
        'model.dropout.pool':
          'strategy gradient-descent needs an exact, deterministic loss: write 0, or use synchronous or downpour',
        augment:
          'strategy gradient-descent needs an exact, deterministic loss: ' +
          'remove augment, or use strategy synchronous or downpour',
        'codec.up': 'strategy gradient-descent needs an exact, deterministic loss: write f32',
      },
    ],
    [
      'an accuracy where nothing is classified',
      { model: { template: 'autoencoder' }, stop: { epochs: 1, accuracy: 0.9 } },
      {
        'stop.accuracy': 'template autoencoder classifies nothing, so it has no accuracy: remove stop.accuracy',
      },
    ],
    [
      'a classifier without labels',
      { dataset: { name: 'idx', trainInputs: 'a', testInputs: 'b' } },
      {
        'dataset.trainLabels':
          'template softmax classifies, so it needs the labels: expected the path of an IDX file, got nothing',
        'dataset.testLabels':
          'template softmax classifies, so it needs the labels: expected the path of an IDX file, got nothing',
      },
    ],
    [
      "classic LeNet-5 with another's units",
      { model: { template: 'lenet', form: 'classic', activation: 'relu' } },
      {
        'model.activation':
          "LeNet-5's classic form is tanh throughout, got relu: remove activation, or write form modern",
      },
    ],
    [
      'more versions to compensate with than memory holds',
      {
        model: { template: 'mlp', hidden: [500, 500, 2000] },
        strategy: { name: 'downpour', policy: { compensation: {} } },
      },
      {
        'strategy.maxStaleness':
          'policy.compensation keeps the last maxStaleness versions, here 1000 of 1665010 parameters: ' +
          'lower maxStaleness to 80 or less',
      },
    ],
    [
      'pairs of steps that no memory holds',
      {
        model: { template: 'mlp', hidden: [8192, 7000] },
        strategy: { name: 'sandblaster', memory: 100 },
        ...{ updateRule: undefined, schedule: undefined },
      },
      { 'strategy.memory': '100 pairs of vectors of 63851730 parameters are kept: lower memory to 4 or less' },
    ],
    [
      'a minibatch that no volunteer holds',
      {
        model: { template: 'cnn', filters: [256, 256] },
        strategy: { name: 'synchronous', batchSize: 65536, portionSize: 65536 },
      },
      {
        'strategy.portionSize': expect.stringMatching(
          /^the layers make \d+ numbers of an example, and 65536 examples are computed at once: write \d+ or less$/,
        ),
      },
    ],
    [
      'a minibatch of which WASM would hold more than its 4 GB while it trains',
      { model: { template: 'cnn', filters: [256, 256] }, strategy: { name: 'downpour', batchSize: 256 } },
      {
        'strategy.batchSize': expect.stringMatching(
          /^the layers make \d+ numbers of an example, and 256 examples are computed at once: write 1\d\d or less$/,
        ),
      },
    ],
    [
      'an accuracy that only a point of a search may have',
      {
        strategy: { name: 'sandblaster' },
        stop: { epochs: 3, accuracy: 0.9 },
        ...{ updateRule: undefined, schedule: undefined },
      },
      {
        'stop.accuracy':
          'a search is tested at points that it may not accept: remove accuracy, strategy.tolerance ends it',
      },
    ],
    [
      'samples that are often empty',
      {
        strategy: { name: 'gradient-descent', fraction: 1e-6 },
        ...{ updateRule: undefined, schedule: undefined },
      },
      {
        'strategy.fraction':
          'of 60000 examples a sample holds 0.060 on average, often none: write at least 0.000016666666666666667',
      },
    ],
    [
      'settings of a rate that stays as it is',
      { schedule: { final: 0.01, hold: 0.5 } },
      {
        'schedule.final': 'shape constant leaves the rate as it is: write shape linear or cosine, or remove final',
        'schedule.hold': 'shape constant leaves the rate as it is: write shape linear or cosine, or remove hold',
      },
    ],
    [
      'regularization that the updater has not',
      { strategy: { name: 'gradient-descent', regularization: 0.1 } },
      {
        'strategy.regularization':
          'updater simple does not regularize: write updater squared-l2 or l1, or remove regularization',
      },
    ],
    [
      'an accuracy, and a gap, that is never looked at on the way',
      {
        model: { template: 'mlp', activation: 'sigmoid' },
        stop: { epochs: 5, accuracy: 0.9 },
        evaluateEveryEpochs: 0,
        pretrain: { gapChecks: 3, evaluateEveryEpochs: 0 },
      },
      {
        'stop.accuracy': 'it needs tests on the way: let evaluateEveryEpochs be more than 0, or remove stop.accuracy',
        'pretrain.gapChecks': 'it needs tests on the way: let evaluateEveryEpochs be more than 0, or remove gapChecks',
      },
    ],
    [
      'what to do about staleness that never is',
      {
        strategy: {
          name: 'downpour',
          maxStaleness: 0,
          policy: { compensation: {}, weight: { name: 'inverse' } },
        },
      },
      {
        'strategy.policy.compensation':
          'with maxStaleness 0 no update is stale: let maxStaleness be 1 or more, or remove policy.compensation',
        'strategy.policy.weight':
          'with maxStaleness 0 no update is stale: let maxStaleness be 1 or more, or remove policy.weight',
      },
    ],
    [
      'a buffer that is never full',
      { stop: { epochs: 2 }, strategy: { name: 'downpour', policy: { buffer: 4096 } } },
      {
        'strategy.policy.buffer':
          '2 epochs of 60000 examples are 1875 minibatches of 64, which never fill the buffer: lower it to 1875 or less',
      },
    ],
    [
      'what is zero, or infinite, where it is computed',
      { updateRule: { name: 'adam', epsilon: 1e-46, rate: 1e300 } },
      {
        'updateRule.epsilon': 'expected at least 1.1754943508222875e-38, got 1e-46',
        'updateRule.rate': 'expected at most 3.4028234663852886e+38, got 1e+300',
      },
    ],
    [
      'a negative bound on who may run ahead',
      { strategy: { name: 'downpour', policy: { bound: { name: 'stale-synchronous', clocks: -1 } } } },
      { 'strategy.policy.bound.clocks': 'expected at least 0, got -1' },
    ],
    [
      'settings of a stage that a stack of RBMs has not',
      {
        model: { template: 'rbm', hidden: [5] },
        strategy: { name: 'synchronous' },
        updateRule: { name: 'sgd' },
        schedule: { shape: 'linear' },
        codec: { up: 'f16' },
        evaluateEveryEpochs: 2,
        maxNorm: 3,
        augment: {},
      },
      {
        strategy: 'template rbm is trained by pretrain alone: write pretrain.strategy instead',
        updateRule: 'template rbm is trained by pretrain alone: write pretrain.updateRule instead',
        schedule: 'template rbm is trained by pretrain alone: write pretrain.schedule instead',
        codec: 'template rbm is trained by pretrain alone: write pretrain.codec instead',
        evaluateEveryEpochs: 'template rbm is trained by pretrain alone: write pretrain.evaluateEveryEpochs instead',
        maxNorm: 'the weights of an RBM are held back by its weight cost: write pretrain.updateRule.weightCost instead',
        augment: 'RBMs are trained on the examples as they are: remove augment',
      },
    ],
  ])('%s: what cannot work together is refused, with what to write instead', (_, change, expected) => {
    expect(problems(change)).toEqual(expected)
  })

  test.each<[string, object]>([
    ['compensation with a buffer', { strategy: { name: 'downpour', policy: { compensation: {}, buffer: 4 } } }],
    [
      'a buffer that fills where leases end with their time',
      { strategy: { name: 'downpour', pushEvery: 10_000, policy: { buffer: 8 } } },
    ],
    [
      'a buffer that fills in the epochs that a layer has by itself',
      {
        dataset: { name: 'mnist', train: 640 },
        model: { template: 'mlp', activation: 'sigmoid' },
        stop: { epochs: 1 },
        pretrain: { strategy: { name: 'downpour', policy: { buffer: 16 } } },
      },
    ],
    ['an autoencoder without pre-training', { model: { template: 'autoencoder' } }],
    [
      'an autoencoder on examples without labels',
      { model: { template: 'autoencoder' }, dataset: { name: 'idx', trainInputs: 'a', testInputs: 'b' } },
    ],
    [
      'a classifier that is tested on training examples',
      { dataset: { name: 'idx', trainInputs: 'a', testInputs: 'b', trainLabels: 'c', validate: 10 } },
    ],
    ['classic LeNet-5, which is tanh by itself', { model: { template: 'lenet', form: 'classic', activation: 'tanh' } }],
    [
      'an accuracy to stop at of RBMs that see labels',
      {
        model: { template: 'rbm', hidden: [5], labels: true },
        stop: { epochs: 1, accuracy: 0.9 },
        ...{ strategy: undefined, updateRule: undefined, codec: undefined },
      },
    ],
    ['dropout in a pre-trained classifier', { model: { template: 'mlp', activation: 'sigmoid' }, pretrain: {} }],
  ])('%s is allowed', (_, change) => {
    expect(problems(change)).toEqual({})
  })

  test('what only the opened dataset can tell is asked with its shape', () => {
    const unfit = (change: object, inputShape: number[], classes = 10) =>
      misfit(parsed({ ...smallest, dataset: { name: 'idx', ...LABELLED }, ...change }), { inputShape, classes })
    expect(unfit({}, [28, 28, 1])).toBeNull()
    expect(unfit({ model: { template: 'lenet' } }, [784])).toEqual({
      path: ['model'],
      message: 'layer conv_1 expects images [height, width, channels], got shape [784]: use template mlp or softmax',
    })
    expect(unfit({ model: { template: 'lenet', form: 'classic' } }, [28, 28, 1], 26)).toEqual({
      path: ['model'],
      message:
        "LeNet-5's classic form expects images [28, 28, channels] of at most ten classes, got [28, 28, 1] of 26: " +
        'write form modern',
    })
    expect(unfit({ model: { template: 'mlp', hidden: [16384] } }, [64, 64, 3])).toEqual({
      path: ['model'],
      message: 'expected a model of at most 67108864 parameters, got 201506826',
    })
    expect(unfit({ augment: { shift: 1 } }, [784])).toEqual({
      path: ['augment'],
      message: 'expected examples that are images [height, width, channels], got [784]: remove augment',
    })
    expect(unfit({}, [28, 28, 1], 1)).toEqual({
      path: ['dataset'],
      message: 'expected labels of two classes or more, got 1',
    })
    expect(unfit({ model: { template: 'autoencoder' } }, [28, 28, 1], 0)).toBeNull()
    const compensated = { strategy: { name: 'downpour', maxStaleness: 300, policy: { compensation: {} } } }
    expect(unfit(compensated, [28, 28, 1])).toBeNull()
    expect(unfit(compensated, [280, 280, 1])?.path).toEqual(['strategy', 'maxStaleness'])
  })
})
