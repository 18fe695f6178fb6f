import { describe, expect, test } from 'vitest'
import { parseRunSpec } from '../../shared/run-spec.ts'

const smallest = { dataset: { name: 'mnist' }, model: { template: 'softmax' }, stop: { epochs: 3 } }

function parsed(spec: object) {
  const result = parseRunSpec(spec)
  if (!result.ok) throw new Error(JSON.stringify(result.problems))
  return result.spec
}
function problems(change: object): Record<string, string> {
  const result = parseRunSpec({ ...smallest, ...change })
  return result.ok ? {} : Object.fromEntries(result.problems.map(({ field, message }) => [field, message]))
}

describe('a RunSpec', () => {
  test('needs only a dataset, a model and when to stop', () => {
    expect(parsed(smallest)).toEqual({
      ...smallest,
      name: 'Untitled run',
      strategy: {
        name: 'downpour',
        batchSize: 64,
        pushEvery: 8,
        localRate: null,
        warmStart: 0,
        maxStaleness: 1000,
      },
      updateRule: { name: 'adagrad', rate: 0.02, epsilon: 1e-8, initial: 0.1 },
      schedule: { shape: 'constant', final: 0 },
      codec: { up: 'int8', down: 'f32' },
      evaluateEveryEpochs: 1,
      leaseSeconds: 15,
      checkpointEvery: 1000,
      journal: 'since-checkpoint',
      seed: 1,
    })
  })

  test('what it says is kept, and what it does not say of a part is filled in', () => {
    const spec = parsed({
      ...smallest,
      dataset: { name: 'mnist', train: 2000 },
      model: { template: 'mlp' },
      strategy: { name: 'synchronous', batchSize: 512 },
      updateRule: { name: 'adam', beta1: 0.5 },
    })
    expect(spec.dataset).toEqual({ name: 'mnist', train: 2000 })
    expect(spec.model).toEqual({ template: 'mlp', hidden: [256, 128], activation: 'relu' })
    expect(spec.strategy).toEqual({ name: 'synchronous', batchSize: 512, portionSize: 64 })
    expect(spec.updateRule).toEqual({
      name: 'adam',
      rate: 0.001,
      beta1: 0.5,
      beta2: 0.999,
      epsilon: 1e-8,
      weightDecay: 0,
    })
  })

  test('is a fixed point: what was parsed parses to itself', () => {
    for (const spec of [smallest, { ...smallest, strategy: { name: 'downpour', pushEvery: 4, fetchEvery: 12 } }]) {
      expect(parsed(JSON.parse(JSON.stringify(parsed(spec))))).toEqual(parsed(spec))
    }
  })

  test.each<[string, object, Record<string, string>]>([
    [
      'an unknown field',
      { colour: 'red', strategy: { name: 'downpour', batchsize: 3 } },
      {
        colour: 'there is no such field: check its spelling, or remove it',
        'strategy.batchsize': 'there is no such field: check its spelling, or remove it',
      },
    ],
    [
      'a model that is too large',
      { model: { template: 'mlp', hidden: [16384, 16384] } },
      { model: 'expected a model of at most 67108864 parameters, got 281477130' },
    ],
    ['an unknown dataset', { dataset: { name: 'mnits' } }, { 'dataset.name': 'expected mnist, got "mnits"' }],
    [
      'a wrong type',
      { name: 7, model: { template: 'mlp', hidden: [100, 'many', 1.5] }, dataset: 'mnist', stop: null },
      {
        name: 'expected a text, got 7',
        'model.hidden.1': 'expected a number, got "many"',
        'model.hidden.2': 'expected a whole number, got 1.5',
        dataset: 'expected an object, got "mnist"',
        stop: 'expected an object, got null',
      },
    ],
    [
      'what is missing',
      { stop: {}, model: undefined },
      { 'stop.epochs': 'expected a number, got nothing', model: 'expected an object, got nothing' },
    ],
    [
      'a negative staleness',
      { strategy: { name: 'downpour', maxStaleness: -1 } },
      { 'strategy.maxStaleness': 'expected at least 0, got -1' },
    ],
    [
      'fetches between pushes',
      { strategy: { name: 'downpour', pushEvery: 4, fetchEvery: 6 } },
      { 'strategy.fetchEvery': 'expected a whole multiple of pushEvery (4), got 6' },
    ],
    [
      'a portion larger than its batch',
      { strategy: { name: 'synchronous', batchSize: 32, portionSize: 33 } },
      { 'strategy.portionSize': 'expected at most batchSize (32), got 33' },
    ],
    [
      'a name that is not one of several',
      { strategy: { name: 'sandblaster' }, model: { template: 'lenet', activation: 'swish' }, codec: { up: 'zip' } },
      {
        'strategy.name': 'expected one of downpour, synchronous, got "sandblaster"',
        'model.activation': 'expected one of relu, tanh, sigmoid, elu, got "swish"',
        'codec.up': 'expected one of f32, f16, int8, got "zip"',
      },
    ],
    [
      'a number outside its limits',
      {
        updateRule: { name: 'momentum', rate: 0, momentum: 1 },
        stop: { epochs: 0, accuracy: 98 },
        leaseSeconds: 601,
        seed: 2 ** 60,
      },
      {
        'updateRule.rate': 'expected more than 0, got 0',
        'updateRule.momentum': 'expected less than 1, got 1',
        'stop.epochs': 'expected at least 1, got 0',
        'stop.accuracy': 'expected at most 1, got 98',
        leaseSeconds: 'expected at most 600, got 601',
        seed: 'expected at most 9007199254740991, got 1152921504606847000',
      },
    ],
    [
      'no number',
      { updateRule: { name: 'sgd', rate: Number.NaN } },
      { 'updateRule.rate': 'expected a number, got NaN' },
    ],
    [
      'too few or too many of something',
      { name: '', model: { template: 'mlp', hidden: [] } },
      { name: 'expected at least 1 character, got ""', 'model.hidden': 'expected at least 1 item, got []' },
    ],
    [
      'a long text, which is cut',
      { name: 'x'.repeat(200) },
      { name: `expected at most 120 characters, got "${'x'.repeat(56)}…` },
    ],
  ])('%s is refused, with the field and what was expected', (_, change, expected) => {
    expect(problems(change)).toEqual(expected)
  })

  test('something that is no spec at all is refused', () => {
    for (const [value, shown] of [
      [undefined, 'nothing'],
      [null, 'null'],
      ['mnist', '"mnist"'],
      [[], '[]'],
    ]) {
      expect(parseRunSpec(value)).toEqual({
        ok: false,
        problems: [{ field: '(the whole spec)', message: `expected an object, got ${shown}` }],
      })
    }
  })
})
