/**
 * The pictures of a run: what can be seen of it as it stands, by name. Which there are depends on what is trained: a
 * classifier that was tested has its confusion matrix and its worst mistakes, a stack of RBMs and an autoencoder their
 * reconstructions, and whatever reads images its filters. Pure functions of a history: nothing is drawn before `draw`.
 */
import type { PictureEntry } from '../../shared/api.ts'
import type { Layout } from '../../shared/layout.ts'
import { decoder, encoder, type Part } from '../../shared/stack.ts'
import { exported } from '../run/exported.ts'
import type { History } from '../run/history.ts'
import { confusion, countsOf } from './confusion.ts'
import { filters, TILES_MAX, tilesOf, type Weights } from './filters.ts'
import { MISTAKES_MAX, mistakes, mistakesIn } from './mistakes.ts'
import { type ImageShape, imageShape, type Raster } from './raster.ts'
import { chosen, type Halves, reconstruct, reconstructions } from './reconstructions.ts'
import { testedOf } from './tested.ts'

export interface Picture extends PictureEntry {
  draw(): Raster
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })

/** In the order in which they are to be looked at; [] where there is none. */
export function picturesOf(history: History): Picture[] {
  const shape = imageShape(history.dataset.inputShape)
  return [...ofTest(history, shape), ...(shape === null ? [] : [...ofHalves(history, shape), ...ofWeights(history)])]
}

function ofTest({ outcomes, dataset }: History, shape: ImageShape | null): Picture[] {
  if (outcomes === null) return []
  const tested = testedOf(outcomes, dataset.test)
  const wrong = mistakesIn(tested)
  const all = whole.format(tested.length)
  const found: Picture[] = [
    {
      name: 'confusion',
      title: 'Confusion matrix',
      words: `How many of the ${all} test examples of each true class (row) were taken for each class (column): ${whole.format(tested.length - wrong.length)} right.`,
      draw: () => confusion(countsOf(tested, dataset.classes)),
    },
  ]
  if (shape === null || wrong.length === 0) return found
  const which =
    wrong.length > MISTAKES_MAX ? `The ${MISTAKES_MAX} worst of ${whole.format(wrong.length)}` : `All ${wrong.length}`
  found.push({
    name: 'mistakes',
    title: 'Worst mistakes',
    words: `${which} test examples classified wrong, the highest loss first: true class → predicted class.`,
    draw: () => mistakes(wrong, dataset.test, shape),
  })
  return found
}

function ofHalves(history: History, shape: ImageShape): Picture[] {
  const { spec, stage, stack, dataset } = history
  const now = () => ({ encoder: exported(history, 'encoder')!, decoder: exported(history, 'decoder')! })
  const before = () => ({
    encoder: encoder(spec.model, dataset, { stack }),
    decoder: decoder(spec.model, dataset, { stack }),
  })
  const picture = (by: string, halves: () => Halves): Picture => ({
    name: 'reconstructions',
    title: 'Reconstructions',
    words: `Test examples; below each, what ${by} makes of it and its squared error.`,
    draw() {
      const parts = halves()
      const all = chosen(dataset.test).map((i) => reconstruct(parts, dataset.test.example(i).input))
      return reconstructions(all, shape)
    },
  })
  if (stage.plan.layer !== null) {
    const rbms = stack.length + 1
    return [picture(rbms === 1 ? 'the RBM' : `the stack of ${rbms} RBMs so far`, now)]
  }
  if (spec.model.template === 'autoencoder') return [picture('the autoencoder', now)]
  return stack.length === 0 ? [] : [picture('the pre-trained stack, before it was fine-tuned,', before)]
}

function ofWeights(history: History): Picture[] {
  const { spec, stage, stack, dataset } = history
  const first = firstWeights(history)
  const found: Picture[] = []
  if (first !== null) {
    found.push({
      name: 'filters',
      title: 'Filters',
      words: `${units(first)} of the first layer by their weights: white excites, black inhibits.`,
      draw: () => filters(first),
    })
  }
  const training = stage.plan.layer !== null
  const trained = training ? [...stack, stage.parameters.snapshot()] : stack
  trained.forEach((_, i) => {
    // While RBMs are trained the first one is the network's first layer.
    if (training && i === 0) return
    const below = () => encoder(spec.model, dataset, { stack: trained.slice(0, i + 1) })
    const read: Omit<Weights, 'values'> = { shape: imageShape(dataset.inputShape)!, units: widthOf(history, i) }
    const carried = i === 0 ? 'as it was pre-trained' : 'its weights carried down through the RBMs below it'
    found.push({
      name: `filters-rbm-${i + 1}`,
      title: `Filters of RBM ${i + 1}`,
      words: `${units(read)} of RBM ${i + 1}, ${carried}: white excites, black inhibits.`,
      draw: () => filters({ ...read, ...carriedDown(below(), tilesOf(read)) }),
    })
  })
  return found
}

function units(weights: Pick<Weights, 'shape' | 'units'>): string {
  const tiles = tilesOf(weights)
  return tiles < weights.units ? `The first ${tiles} of ${whole.format(weights.units)} units` : `The ${tiles} units`
}

/** The weights of the network's first layer; null where it is neither dense nor a convolution. */
function firstWeights(history: History): Weights | null {
  const { layout, parameters } = exported(history, 'model')!
  const [slot] = layout.slots
  const values = parameters.subarray(slot.offset, slot.offset + slot.size)
  const input = imageShape(history.dataset.inputShape)!
  if (!slot.name.endsWith('/kernel')) return null
  if (slot.shape.length === 2) return { values, shape: input, units: slot.shape[1] }
  const [height, width, channels, filters] = slot.shape
  return { values, shape: [height, width, channels], units: filters }
}

const kernelsOf = ({ slots }: Layout) => slots.filter(({ name }) => name.endsWith('/kernel'))

function widthOf({ spec }: History, layer: number): number {
  const { model } = spec
  return 'hidden' in model ? model.hidden[layer] : 0
}

/**
 * The first `tiles` units of a stack's top layer as weights of the input: the product of the kernels from below,
 * biases and nonlinearities left out, as deep belief networks are commonly shown (Erhan et al. 2009, §3).
 */
function carriedDown({ layout, parameters }: Part, tiles: number): Pick<Weights, 'values' | 'units'> {
  const [top, ...below] = kernelsOf(layout).reverse()
  let product = new Float32Array(top.shape[0] * tiles)
  for (let i = 0; i < top.shape[0]; i++) {
    for (let tile = 0; tile < tiles; tile++) {
      product[i * tiles + tile] = parameters[top.offset + i * top.shape[1] + tile]
    }
  }
  for (const { offset, shape } of below) {
    const [inputs, outputs] = shape
    const next = new Float32Array(inputs * tiles)
    for (let i = 0; i < inputs; i++) {
      for (let j = 0; j < outputs; j++) {
        const weight = parameters[offset + i * outputs + j]
        for (let tile = 0; tile < tiles; tile++) next[i * tiles + tile] += weight * product[j * tiles + tile]
      }
    }
    product = next
  }
  return { values: product, units: tiles }
}
