/** The worst mistakes of a classifier: the test examples classified wrong, with true → predicted class below each. */
import type { Split } from '../datasets/dataset.ts'
import { AMBER, frameOf, GAP, INK, PAPER, ROW, TEXT_SCALE } from './contact-sheet.ts'
import { GLYPH_HEIGHT } from './glyphs.ts'
import { type ImageShape, Raster, textWidth } from './raster.ts'
import type { Tested } from './tested.ts'

export const MISTAKES_MAX = 25

/** All that are wrong, the highest loss first; a loss that is no number counts as the highest. */
export function mistakesIn(tested: readonly Tested[]): Tested[] {
  const height = ({ loss }: Tested) => (Number.isNaN(loss) ? Number.POSITIVE_INFINITY : loss)
  const wrong = tested.filter(({ label, predicted }) => label !== predicted)
  // Two infinite ones are alike; their difference would be no number.
  return wrong.sort((a, b) => (height(a) === height(b) ? 0 : height(b) - height(a)))
}

/** Draws the first of them, MISTAKES_MAX at most; there is at least one. */
export function mistakes(wrong: readonly Tested[], { example }: Split, shape: ImageShape): Raster {
  const shown = wrong.slice(0, MISTAKES_MAX)
  const { scale, width, height } = frameOf(shape)
  const letters = GLYPH_HEIGHT * TEXT_SCALE
  const step = { x: width + GAP, y: height + letters + 3 * GAP }
  const columns = Math.min(ROW, shown.length)
  const raster = new Raster(columns * step.x + GAP, Math.ceil(shown.length / columns) * step.y + GAP, PAPER)
  shown.forEach((mistake, i) => {
    const x = GAP + (i % columns) * step.x
    const y = GAP + Math.floor(i / columns) * step.y
    raster.image(x, y, example(mistake.example).input, shape, scale)
    const before = `${mistake.label}→`
    const predicted = String(mistake.predicted)
    const from = x + Math.floor((width - textWidth(before + predicted, TEXT_SCALE)) / 2)
    const below = y + height + GAP
    const after = raster.text(from, below, before, INK, TEXT_SCALE)
    raster.text(after, below, predicted, AMBER, TEXT_SCALE)
  })
  return raster
}
