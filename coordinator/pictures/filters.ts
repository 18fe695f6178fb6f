/**
 * What units look for: their weights drawn in the shape of what they read, one tile a unit. Grey is no weight, white
 * the most positive and black the most negative one, on one scale for the whole picture.
 */
import { type Colour, type ImageShape, Raster } from './raster.ts'
import type { Weights, Window } from './weights.ts'

const TILES_MAX = 100
/** Pixels that a small tile is enlarged to, about, and that the whole picture has each way, about at most. */
const TILE_PIXELS = 56
const SIDE_PIXELS_MAX = 1500
const BETWEEN = 1
const LINE: Colour = [28, 31, 39]
/**
 * The share of the weights that may be lighter or darker than the scale goes: without it a single large weight leaves
 * everything else grey.
 */
const BEYOND = 0.005

/** The units that have a tile: the first ones. */
export function tilesOf({ shape, units }: Window): number {
  const across = Math.floor(SIDE_PIXELS_MAX / (tileScale(shape) * Math.max(shape[0], shape[1]) + BETWEEN))
  return Math.min(units, TILES_MAX, Math.max(1, across) ** 2)
}

export function filters(weights: Weights): Raster {
  const { values, shape, units } = weights
  const [height, width, channels] = shape
  const tiles = tilesOf(weights)
  const scale = tileScale(shape)
  const columns = columnsFor(tiles)
  const rows = Math.ceil(tiles / columns)
  const step = { x: width * scale + BETWEEN, y: height * scale + BETWEEN }
  const raster = new Raster(columns * step.x + BETWEEN, rows * step.y + BETWEEN, LINE)
  const elements = height * width * channels
  const shown = new Float32Array(tiles * elements)
  for (let tile = 0; tile < tiles; tile++) {
    for (let i = 0; i < elements; i++) shown[tile * elements + i] = values[i * units + tile]
  }
  const limit = limitOf(shown)
  const grey = shown.map((weight) => 127.5 * (1 + weight / limit))
  for (let tile = 0; tile < tiles; tile++) {
    const x = BETWEEN + (tile % columns) * step.x
    const y = BETWEEN + Math.floor(tile / columns) * step.y
    raster.image(x, y, grey.subarray(tile * elements, (tile + 1) * elements), shape, scale)
  }
  return raster
}

const tileScale = ([height, width]: ImageShape) => Math.max(1, Math.floor(TILE_PIXELS / Math.max(height, width)))

/** A full rectangle where there is one that is not too long, else about a square. */
function columnsFor(tiles: number): number {
  const square = Math.ceil(Math.sqrt(tiles))
  for (let columns = square; columns <= 2 * Math.sqrt(tiles); columns++) if (tiles % columns === 0) return columns
  return square
}

/** The weight that is drawn white; 1 where there is none but zero. */
function limitOf(weights: Float32Array): number {
  const sizes = weights.map(Math.abs).filter(Number.isFinite).sort()
  return sizes[Math.ceil((1 - BEYOND) * sizes.length) - 1] || 1
}
