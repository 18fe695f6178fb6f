/**
 * The confusion matrix of a classifier: rows are the true classes, columns the predicted ones. What is right is shaded
 * blue by its share of the row, what is wrong amber by how it compares with the most common mistake.
 */
import { GLYPH_HEIGHT } from './glyphs.ts'
import { type Colour, mixed, Raster, textWidth } from './raster.ts'
import type { Tested } from './tested.ts'

const PAPER: Colour = [255, 255, 255]
const EMPTY: Colour = [244, 243, 239]
const INK: Colour = [27, 31, 42]
const SOFT: Colour = [90, 94, 105]
const PEN: Colour = [44, 73, 200]
const AMBER: Colour = [240, 169, 92]

/** More classes than these have letters of half the size, or no counts and class numbers at all. */
const LARGE_CLASSES = 16
const LETTERED_CLASSES = 64
/** Pixels of a cell without letters. */
const BARE_CELL = 6
const BETWEEN = 1

/** counts[true][predicted]. */
export type Counts = readonly (readonly number[])[]

export function countsOf(tested: readonly Tested[], classes: number): Counts {
  const counts = Array.from({ length: classes }, () => new Array<number>(classes).fill(0))
  // What a volunteer answered is a byte, not always a class.
  for (const { label, predicted } of tested) if (predicted < classes) counts[label][predicted]++
  return counts
}

export function confusion(counts: Counts): Raster {
  const classes = counts.length
  const scale = classes <= LARGE_CLASSES ? 2 : 1
  const lettered = classes <= LETTERED_CLASSES
  const cell = lettered ? letteredCell(counts, scale) : { width: BARE_CELL, height: BARE_CELL }
  const step = { x: cell.width + BETWEEN, y: cell.height + BETWEEN }
  const left = textWidth('TRUE', scale) + 8 * scale
  const heading = (GLYPH_HEIGHT + 8) * scale + BETWEEN
  const top = 2 * heading
  const margin = 4 * scale
  const raster = new Raster(left + classes * step.x + margin, top + classes * step.y + margin, PAPER)
  raster.centred(left, 0, classes * step.x, heading, 'PREDICTED', SOFT, scale)
  raster.centred(0, heading, left, heading - BETWEEN, 'TRUE', SOFT, scale)
  const shade = shading(counts)
  for (let row = 0; row < classes; row++) {
    const y = top + row * step.y
    if (lettered) {
      raster.centred(0, y, left, cell.height, String(row), INK, scale)
      raster.centred(left + row * step.x, heading, cell.width, heading - BETWEEN, String(row), INK, scale)
    }
    for (let column = 0; column < classes; column++) {
      const x = left + column * step.x
      const count = counts[row][column]
      const { colour, ink } = shade(row, column)
      raster.fill(x, y, cell.width, cell.height, colour)
      if (lettered && count > 0) raster.centred(x, y, cell.width, cell.height, String(count), ink, scale)
    }
  }
  return raster
}

/** Wide enough for the longest count and class number. */
function letteredCell(counts: Counts, scale: number): { width: number; height: number } {
  const largest = Math.max(...counts.flat(), counts.length - 1)
  return { width: textWidth(String(largest), scale) + 6 * scale, height: (GLYPH_HEIGHT + 8) * scale }
}

function shading(counts: Counts): (row: number, column: number) => { colour: Colour; ink: Colour } {
  const totals = counts.map((row) => row.reduce((sum, count) => sum + count, 0))
  const share = (row: number, column: number) => counts[row][column] / Math.max(1, totals[row])
  let worst = 0
  counts.forEach((cells, row) => {
    cells.forEach((_, column) => {
      if (column !== row) worst = Math.max(worst, share(row, column))
    })
  })
  return (row, column) => {
    const part = share(row, column)
    if (part === 0) return { colour: EMPTY, ink: INK }
    if (row === column) return { colour: mixed(PAPER, PEN, 0.15 + 0.85 * part), ink: part > 0.4 ? PAPER : INK }
    // Square roots: rare mistakes are to be seen beside common ones.
    return { colour: mixed(PAPER, AMBER, 0.1 + 0.9 * Math.sqrt(part / worst)), ink: INK }
  }
}
