/**
 * The pictures of a run: what can be seen of it as it stands, by name. Which there are depends on what is trained: a
 * classifier that was tested has its confusion matrix and its worst mistakes, a stack of RBMs and an autoencoder their
 * reconstructions, and whatever reads images its filters. Pure functions of a history: nothing is drawn before `draw`.
 */
import type { PictureEntry } from '../../shared/api.ts'
import { decoder, encoder } from '../../shared/stack.ts'
import { exported } from '../run/exported.ts'
import type { History } from '../run/history.ts'
import { confusion, countsOf } from './confusion.ts'
import { filters, tilesOf } from './filters.ts'
import { MISTAKES_MAX, mistakes, mistakesIn } from './mistakes.ts'
import { imageShape, type Raster } from './raster.ts'
import { chosen, type Halves, reconstruct, reconstructions } from './reconstructions.ts'
import { testedOf } from './tested.ts'
import { carriedDown, firstWeights, firstWindow, type Window } from './weights.ts'

interface Picture extends PictureEntry {
  draw(): Raster
}

/** In the order in which they are to be looked at; [] where there is none. */
export function picturesOf(history: History): Picture[] {
  const tested = ofTest(history)
  return [...tested.slice(0, 1), ...ofHalves(history), ...ofWeights(history), ...tested.slice(1)]
}

/** The confusion matrix, and then the mistakes. */
function ofTest({ outcomes, dataset }: History): Picture[] {
  if (outcomes === null || dataset.absent !== null) return []
  const tested = testedOf(outcomes, dataset.test)
  const wrong = mistakesIn(tested)
  const found: Picture[] = [
    {
      name: 'confusion',
      title: 'Confusion matrix',
      words: `${count(tested.length - wrong.length)} of ${count(tested.length)} test examples right. Rows are true classes, columns what they were taken for.`,
      draw: () => confusion(countsOf(tested, dataset.classes)),
    },
  ]
  const shape = imageShape(dataset.inputShape)
  if (shape === null || wrong.length === 0) return found
  const shown = Math.min(MISTAKES_MAX, wrong.length)
  found.push({
    name: 'mistakes',
    title: 'Worst mistakes',
    words: `Test examples classified wrong (${shown} of ${count(wrong.length)}), the highest loss first: true class → what it was taken for.`,
    draw: () => mistakes(wrong, dataset.test, shape),
  })
  return found
}

function ofHalves(history: History): Picture[] {
  const { spec, stage, stack, dataset } = history
  const shape = imageShape(dataset.inputShape)
  if (shape === null || dataset.absent !== null) return []
  const picture = (by: string, halves: () => Halves): Picture => ({
    name: 'reconstructions',
    title: 'Reconstructions',
    words: `Test examples, and below each what ${by} makes of it, with the squared error.`,
    draw() {
      const parts = halves()
      const all = chosen(dataset.test).map((i) => reconstruct(parts, dataset.test.example(i).input))
      return reconstructions(all, shape)
    },
  })
  const now = () => ({ encoder: exported(history, 'encoder')!, decoder: exported(history, 'decoder')! })
  if (stage.plan.layer !== null) {
    return [picture(stack.length === 0 ? 'the RBM' : `the stack of ${stack.length + 1} RBMs`, now)]
  }
  if (spec.model.template === 'autoencoder') return [picture('the autoencoder', now)]
  if (stack.length === 0) return []
  const before = () => ({
    encoder: encoder(spec.model, dataset, { stack }),
    decoder: decoder(spec.model, dataset, { stack }),
  })
  return [picture('the pre-trained stack, before fine-tuning,', before)]
}

function ofWeights(history: History): Picture[] {
  const { spec, stage, stack, dataset } = history
  const found: Picture[] = []
  const first = firstWindow(history)
  if (first !== null) {
    found.push({
      name: 'filters',
      title: 'Filters of the first layer',
      words: `The weights into ${units(first)}: white excites, black inhibits.`,
      draw: () => filters(firstWeights(history, first)),
    })
  }
  const shape = imageShape(dataset.inputShape)
  const { model } = spec
  if (shape === null || !('hidden' in model)) return found
  const tuned = stage.plan.layer === null
  const rbms = () => (tuned ? stack : [...stack, stage.parameters.snapshot()])
  // Before fine-tuning the first RBM is the first layer as it stands.
  for (let layer = tuned ? 0 : 1; layer < stack.length + (tuned ? 0 : 1); layer++) {
    const window: Window = { shape, units: model.hidden[layer] }
    const carried = layer === 0 ? 'as pre-trained' : 'carried down through the RBMs below'
    found.push({
      name: `filters-rbm-${layer + 1}`,
      title: `Filters of RBM ${layer + 1}`,
      words: `The weights into ${units(window)}, ${carried}: white excites, black inhibits.`,
      draw: () => filters(carriedDown(history, rbms().slice(0, layer + 1), tilesOf(window))),
    })
  }
  return found
}

function units(window: Window): string {
  const tiles = tilesOf(window)
  return tiles < window.units ? `the first ${tiles} of ${count(window.units)} units` : `the ${tiles} units`
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const count = (value: number) => whole.format(value)
