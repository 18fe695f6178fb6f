/** Every model template, as it comes out of a RunSpec, trains on a volunteer as the float64 oracle says. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Engine } from '../../client/volunteer/compute/engine.ts'
import { openEngine } from '../../client/volunteer/compute/engines.ts'
import { initialParameters } from '../../shared/layout.ts'
import { buildModel, buildRbm, type Model, type Shape } from '../../shared/models.ts'
import { Random } from '../../shared/random.ts'
import type { ModelSpec } from '../../shared/run-spec.ts'
import { compare, type Difference, NearKink } from '../support/oracle-lease.ts'
import { drawMinibatch } from '../support/oracle-models.ts'

let engine: Engine
beforeAll(async () => {
  engine = await openEngine('wasm')
})
afterAll(() => engine.close())

const small: Shape = { inputShape: [8, 6, 2], classes: 5 }
const digits: Shape = { inputShape: [28, 28, 1], classes: 10 }
const dropout = { input: 0.2, hidden: 0.5 }
const contrastive = { steps: 2, persistent: false, visible: 'probabilities', initial: 0.1 } as const

const network = (spec: ModelSpec, shape = small) => buildModel(spec, shape, null)
const stack: ModelSpec = { template: 'rbm', hidden: [9, 7], code: 'gaussian', labels: false }
const models: Record<string, Model> = {
  softmax: network({ template: 'softmax' }),
  'mlp, glorot': network({ template: 'mlp', hidden: [9, 7], activation: 'relu', initializer: 'glorot', dropout }),
  'mlp, spark': network({ template: 'mlp', hidden: [9], activation: 'sigmoid', initializer: 'spark', dropout }),
  'lenet, modern': network({ template: 'lenet', form: 'modern', activation: 'tanh' }, digits),
  'lenet, classic': network({ template: 'lenet', form: 'classic', activation: 'tanh' }, digits),
  cnn: network({
    ...{ template: 'cnn', filters: [3, 4], dense: [6], activation: 'elu' },
    dropout: { pool: 0.25, dense: 0.5 },
  }),
  autoencoder: network({ template: 'autoencoder', hidden: [9, 4] }),
  'the first RBM': buildRbm(stack, 0, small, null, contrastive),
  'a second RBM that sees the labels': buildRbm(
    { template: 'rbm', hidden: [9, 7], code: 'sigmoid', labels: true },
    1,
    small,
    new Float32Array(97 * 9).fill(0.05),
    contrastive,
  ),
  'the second RBM': buildRbm(stack, 1, small, new Float32Array(97 * 9).fill(0.05), contrastive),
}

/** The first parameters, with biases that are not zero: else all classes are alike where everything is dropped. */
function begun({ layout }: Model, seed: number): Float32Array {
  const parameters = initialParameters(layout, seed)
  const random = new Random(seed)
  for (const { name, offset, size } of layout.slots) {
    if (name.endsWith('bias')) for (let i = offset; i < offset + size; i++) parameters[i] = random.uniform(i) - 0.5
  }
  return parameters
}

/** With the first seed that brings no rectifier or pool too near a kink. */
async function difference(model: Model, counts: number[], seed = 1): Promise<Difference> {
  try {
    return await compare(engine, model, begun(model, seed), seed, counts)
  } catch (error) {
    if (error instanceof NearKink && seed < 20) return difference(model, counts, seed + 1)
    throw error
  }
}

for (const [name, model] of Object.entries(models)) {
  it(name, async () => {
    const { correct, ...differences } = await difference(model, name.startsWith('lenet') ? [2, 1] : [5, 8, 3])
    for (const difference of Object.values(differences)) expect(difference).toBeLessThan(1e-5)
    expect(correct).toBe(0)
  })
}

it.each<[string, ModelSpec, number]>([
  ['softmax', { template: 'softmax' }, 0.6],
  ['mlp, glorot', { template: 'mlp', hidden: [100], activation: 'relu', initializer: 'glorot', dropout }, 0.6],
  ['mlp, spark', { template: 'mlp', hidden: [100], activation: 'sigmoid', initializer: 'spark', dropout }, 0.1],
])('%s knows at first about as much as nothing: a loss of ln 10', async (_, spec, within) => {
  const model = network(spec, digits)
  const trainer = await engine.load(model)
  const batch = drawMinibatch({ inputShape: digits.inputShape, classes: 10 }, 256, 5)
  const losses: number[] = []
  for (const seed of [1, 2, 3]) {
    trainer.begin(initialParameters(model.layout, seed))
    trainer.evaluate(batch)
    losses.push((await trainer.finish()).lossSum / 256)
  }
  for (const loss of losses) expect(Math.abs(loss - Math.LN10)).toBeLessThan(within)
  trainer.dispose()
})
