/**
 * The dark sheet that examples are shown on: how large an example is drawn, and how many stand in a row, so that a
 * sheet can be read on a phone as well.
 */
import type { Colour, ImageShape } from './raster.ts'

export const PAPER: Colour = [28, 31, 39]
export const INK: Colour = [236, 234, 228]
/** For what is wrong. */
export const AMBER: Colour = [240, 169, 92]

/** Examples in a row. */
export const ROW = 5
/** Pixels between neighbours. */
export const GAP = 6
export const TEXT_SCALE = 2

/** Pixels that a small example is enlarged to, about. */
const EXAMPLE_PIXELS = 84

export interface Frame {
  /** How many pixels each pixel becomes, each way. */
  readonly scale: number
  readonly width: number
  readonly height: number
}

export function frameOf([height, width]: ImageShape): Frame {
  const scale = Math.max(1, Math.floor(EXAMPLE_PIXELS / Math.max(height, width)))
  return { scale, width: width * scale, height: height * scale }
}
