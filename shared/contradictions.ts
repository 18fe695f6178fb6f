/**
 * What of a RunSpec cannot work together, each with the field, the reason, and what to write instead. Of a dataset
 * whose shape its files say (idx), the coordinator asks again with the real one (`misfit`).
 */
import { tooLarge } from './limits.ts'
import { buildModel, endsInClasses, type Model, rbmLayers, type Shape } from './models.ts'
import type { RunSpec } from './run-spec.ts'
import type { Contradiction } from './spec-problem.ts'
import type { DownpourSpec, StrategySpec } from './strategy-spec.ts'
import { ShapeMismatch } from './topology.ts'
import { takesWholePasses } from './whole-passes.ts'
import { withoutEffect } from './without-effect.ts'

/** `asByDefault`: a spec in which nothing is said but a dataset, a model and when to stop. */
export function contradictions(spec: RunSpec, asByDefault: RunSpec): Contradiction[] {
  const { dataset, pretrain } = spec
  const unfit = dataset.name === 'idx' ? null : misfit(spec, { inputShape: [28, 28, 1], classes: 10 })
  return [
    ...ofDataset(spec),
    ...ofModel(spec),
    ...ofStrategy(spec.strategy, ['strategy']),
    ...ofStop(spec),
    ...(pretrain ? ofStrategy(pretrain.strategy, ['pretrain', 'strategy']) : []),
    ...ofPretrain(spec),
    ...ofWholePasses(spec, asByDefault),
    ...ofStacks(spec, asByDefault),
    ...withoutEffect(spec),
    ...(unfit ? [unfit] : []),
  ]
}

/** What of the spec does not fit a dataset of this shape; the first thing found, null where all does. */
export function misfit(spec: RunSpec, shape: Shape): Contradiction | null {
  const { augment } = spec
  let model: Model
  try {
    model = buildModel(spec.model, shape, null)
  } catch (error) {
    if (!(error instanceof ShapeMismatch)) throw error
    return { path: ['model'], message: error.message }
  }
  if (endsInClasses(spec.model) && shape.classes < 2) {
    return { path: ['dataset'], message: `expected labels of two classes or more, got ${shape.classes}` }
  }
  if (augment && shape.inputShape.length !== 3) {
    return {
      path: ['augment'],
      message: `expected examples that are images [height, width, channels], got [${shape.inputShape.join(', ')}]: remove augment`,
    }
  }
  return tooLarge(spec, model)
}

function ofDataset(spec: RunSpec): Contradiction[] {
  const { dataset, model, stop } = spec
  const found: Contradiction[] = []
  if (dataset.name === 'idx' && endsInClasses(spec.model)) {
    // With `validate` the test examples are training examples, labels and all.
    const missing = (['trainLabels', ...(dataset.validate === undefined ? ['testLabels'] : [])] as const).filter(
      (field) => dataset[field as 'trainLabels' | 'testLabels'] === undefined,
    )
    for (const field of missing) {
      found.push({
        path: ['dataset', field],
        message: `template ${model.template} classifies, so it needs the labels: expected the path of an IDX file, got nothing`,
      })
    }
  }
  if (stop.accuracy !== undefined && !endsInClasses(spec.model)) {
    found.push({
      path: ['stop', 'accuracy'],
      message: `template ${model.template} classifies nothing, so it has no accuracy: remove stop.accuracy`,
    })
  }
  return found
}

function ofModel({ model }: RunSpec): Contradiction[] {
  if (model.template !== 'lenet' || model.form !== 'classic' || (model.activation ?? 'tanh') === 'tanh') return []
  return [
    {
      path: ['model', 'activation'],
      message: `LeNet-5's classic form is tanh throughout, got ${model.activation}: remove activation, or write form modern`,
    },
  ]
}

function ofStrategy(strategy: StrategySpec, path: string[]): Contradiction[] {
  if (strategy.name === 'downpour') return ofDownpour(strategy, path)
  if (strategy.name === 'synchronous' && strategy.portionSize > strategy.batchSize) {
    const message = `expected at most batchSize (${strategy.batchSize}), got ${strategy.portionSize}`
    return [{ path: [...path, 'portionSize'], message }]
  }
  if (strategy.name === 'sandblaster' && strategy.l1 > 0) {
    const message = 'plain L-BFGS needs a smooth loss: use strategy gradient-descent with updater l1, or l2'
    return [{ path: [...path, 'l1'], message }]
  }
  return []
}

/** What is tested of a search is what it tries, and it ends with what it accepted. */
function ofStop({ stop, strategy }: RunSpec): Contradiction[] {
  if (strategy.name !== 'sandblaster' || stop.accuracy === undefined) return []
  const message = 'a search is tested at points that it may not accept: remove accuracy, strategy.tolerance ends it'
  return [{ path: ['stop', 'accuracy'], message }]
}

function ofDownpour(spec: DownpourSpec, path: string[]): Contradiction[] {
  const { pushEvery, fetchEvery = pushEvery, overlap, maxStaleness, policy } = spec
  if (fetchEvery % pushEvery !== 0) {
    const message = `expected a whole multiple of pushEvery (${pushEvery}), got ${fetchEvery}`
    return [{ path: [...path, 'fetchEvery'], message }]
  }
  if (!overlap) return []
  const found: Contradiction[] = []
  const refuse = (message: string) => found.push({ path: [...path, 'overlap'], message })
  if (fetchEvery !== pushEvery) {
    refuse(`overlapping leases each fetch: remove overlap, or fetchEvery (${fetchEvery}, pushEvery is ${pushEvery})`)
  }
  if (maxStaleness === 0) {
    refuse('an overlapping lease is always one update behind: remove overlap, or let maxStaleness be 1 or more')
  }
  if (policy.bound.name !== 'none') {
    refuse(`${policy.bound.name} bounds how far leases run ahead of updates: remove overlap, or policy.bound`)
  }
  return found
}

function ofPretrain({ model, pretrain }: RunSpec): Contradiction[] {
  if (!pretrain) return []
  const found: Contradiction[] = []
  if (rbmLayers(model).length === 0) {
    found.push({
      path: ['pretrain'],
      message:
        `contrastive divergence trains stacks of dense layers, which template ${model.template} has not: ` +
        'use template mlp with activation sigmoid, autoencoder or rbm, or remove pretrain',
    })
  }
  if (model.template === 'mlp' && model.activation !== 'sigmoid') {
    found.push({
      path: ['model', 'activation'],
      message: `pretrain makes layers of sigmoid units, got ${model.activation}: use activation sigmoid, or remove pretrain`,
    })
  }
  if (takesWholePasses(pretrain.strategy)) {
    found.push({
      path: ['pretrain', 'strategy', 'name'],
      message:
        `contrastive divergence has no loss that ${pretrain.strategy.name} could search on: ` +
        'use strategy synchronous or downpour',
    })
  }
  return found
}

/** These compare losses at neighbouring points: each must be the same function of the parameters. */
function ofWholePasses(spec: RunSpec, asByDefault: RunSpec): Contradiction[] {
  const { strategy, model, augment, maxNorm, codec } = spec
  if (!takesWholePasses(strategy)) return []
  const because = (what: string) => `strategy ${strategy.name} needs an exact, deterministic loss: ${what}`
  const found: Contradiction[] = []
  if ('dropout' in model) {
    const zero = Object.entries(model.dropout).filter(([, rate]) => rate > 0)
    for (const [where] of zero) {
      found.push({ path: ['model', 'dropout', where], message: because('write 0, or use synchronous or downpour') })
    }
  }
  if (augment) {
    found.push({ path: ['augment'], message: because('remove augment, or use strategy synchronous or downpour') })
  }
  if (maxNorm !== undefined) {
    const message = `strategy ${strategy.name} makes steps of its own, which maxNorm does not reach: remove maxNorm`
    found.push({ path: ['maxNorm'], message })
  }
  for (const way of ['up', 'down'] as const) {
    if (codec[way] !== 'f32') found.push({ path: ['codec', way], message: because('write f32') })
  }
  for (const field of saidOf(spec, asByDefault, ['updateRule', 'schedule'])) {
    const message = `strategy ${strategy.name} makes steps of its own: remove ${field}; its settings are those of strategy`
    found.push({ path: [field], message })
  }
  return found
}

/** Those of these fields that are not as they are where nothing is said of them. */
function saidOf<Field extends keyof RunSpec>(spec: RunSpec, asByDefault: RunSpec, fields: readonly Field[]): Field[] {
  return fields.filter((field) => JSON.stringify(spec[field]) !== JSON.stringify(asByDefault[field]))
}

/** Of a stack of RBMs only the stages of `pretrain` are trained: what is said of the last stage would be lost. */
function ofStacks(spec: RunSpec, asByDefault: RunSpec): Contradiction[] {
  if (spec.model.template !== 'rbm') return []
  const said = saidOf(spec, asByDefault, ['strategy', 'updateRule', 'schedule', 'codec', 'evaluateEveryEpochs'])
  const found: Contradiction[] = said.map((field) => ({
    path: [field],
    message: `template rbm is trained by pretrain alone: write pretrain.${field} instead`,
  }))
  if (spec.maxNorm !== undefined) {
    found.push({
      path: ['maxNorm'],
      message: 'the weights of an RBM are held back by its weight cost: write pretrain.updateRule.weightCost instead',
    })
  }
  if (spec.augment) {
    found.push({ path: ['augment'], message: 'RBMs are trained on the examples as they are: remove augment' })
  }
  return found
}
