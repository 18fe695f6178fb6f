/**
 * Examples, and below each what an encoder and a decoder make of it, with the squared error Σ(x − x̂)² of elements
 * 0..1. Of a stack of RBMs that is mean field: probabilities up through it and down again.
 */
import type { Part } from '../../shared/stack.ts'
import type { Split } from '../datasets/dataset.ts'
import { type Frame, frameOf, GAP, INK, PAPER, ROW, TEXT_SCALE } from './contact-sheet.ts'
import { forward } from './forward.ts'
import { GLYPH_HEIGHT } from './glyphs.ts'
import { type ImageShape, Raster } from './raster.ts'

export const EXAMPLES = 10

export interface Halves {
  readonly encoder: Part
  readonly decoder: Part
}

export interface Reconstruction {
  /** Bytes, in the order of the image's shape. */
  readonly input: Uint8Array
  /** 0..255 */
  readonly output: Float64Array
  readonly squaredError: number
}

/** The first example of each class, as far as there is room; then the first of the others. */
export function chosen({ examples, example }: Split): number[] {
  const seen = new Set<number>()
  const firsts: number[] = []
  for (let i = 0; i < examples && firsts.length < EXAMPLES; i++) {
    const { label } = example(i)
    if (seen.has(label)) continue
    seen.add(label)
    firsts.push(i)
  }
  firsts.sort((a, b) => example(a).label - example(b).label)
  for (let i = 0; i < examples && firsts.length < EXAMPLES; i++) if (!firsts.includes(i)) firsts.push(i)
  return firsts
}

export function reconstruct({ encoder, decoder }: Halves, input: Uint8Array): Reconstruction {
  const given = Float64Array.from(input, (byte) => byte / 255)
  const answer = forward(decoder, forward(encoder, given))
  const squaredError = given.reduce((sum, value, i) => sum + (value - answer[i]) ** 2, 0)
  return { input, output: answer.map((value) => 255 * value), squaredError }
}

export function reconstructions(all: readonly Reconstruction[], shape: ImageShape): Raster {
  const frame = frameOf(shape)
  const letters = GLYPH_HEIGHT * TEXT_SCALE
  const band = 2 * frame.height + 2 * GAP + letters
  const columns = Math.min(ROW, all.length)
  const rows = Math.ceil(all.length / columns)
  // Bands stand further apart than what belongs together.
  const raster = new Raster(columns * (frame.width + GAP) + GAP, rows * (band + 2 * GAP) + GAP, PAPER)
  all.forEach((one, i) => {
    const x = GAP + (i % columns) * (frame.width + GAP)
    draw(raster, one, x, GAP + Math.floor(i / columns) * (band + 2 * GAP), shape, frame)
  })
  return raster
}

function draw(
  raster: Raster,
  { input, output, squaredError }: Reconstruction,
  x: number,
  y: number,
  shape: ImageShape,
  { scale, width, height }: Frame,
): void {
  raster.image(x, y, input, shape, scale)
  raster.image(x, y + height + GAP, output, shape, scale)
  const letters = GLYPH_HEIGHT * TEXT_SCALE
  raster.centred(x, y + 2 * (height + GAP), width, letters, short(squaredError), INK, TEXT_SCALE)
}

/** At most four characters of what may be expected: 0.25, 12.3, 123. */
function short(error: number): string {
  if (!Number.isFinite(error)) return '...'
  return error.toFixed(error < 1 ? 2 : error < 99.95 ? 1 : 0)
}
