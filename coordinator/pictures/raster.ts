/** A picture being drawn: RGB pixels, on which tiles, bars and letters are put, and which becomes a PNG file. */
import { encode } from 'fast-png'
import { GLYPH_HEIGHT, GLYPH_WIDTH, glyph } from './glyphs.ts'

export type Colour = readonly [red: number, green: number, blue: number]

/**
 * [height, width, channels]. Of three channels they are red, green and blue; of any other number their mean is shown.
 */
export type ImageShape = readonly [height: number, width: number, channels: number]

/** The shape of one example where it is an image; null for a plain vector. */
export function imageShape(inputShape: readonly number[]): ImageShape | null {
  return inputShape.length === 3 ? [inputShape[0], inputShape[1], inputShape[2]] : null
}

/** From one letter's left edge to the next one's. */
const ADVANCE = GLYPH_WIDTH + 1

export class Raster {
  readonly width: number
  readonly height: number
  /** Row by row, three bytes a pixel. */
  readonly rgb: Uint8Array

  constructor(width: number, height: number, paper: Colour) {
    this.width = width
    this.height = height
    this.rgb = new Uint8Array(3 * width * height)
    this.fill(0, 0, width, height, paper)
  }

  /** A bar; what lies outside is cut off. */
  fill(x: number, y: number, width: number, height: number, [red, green, blue]: Colour): void {
    const right = Math.min(this.width, x + width)
    const bottom = Math.min(this.height, y + height)
    for (let row = Math.max(0, y); row < bottom; row++) {
      for (let column = Math.max(0, x); column < right; column++) {
        const at = 3 * (row * this.width + column)
        this.rgb[at] = red
        this.rgb[at + 1] = green
        this.rgb[at + 2] = blue
      }
    }
  }

  /** An image of values 0..255 in the order of its shape, each pixel `scale` × `scale` large. */
  image(x: number, y: number, values: ArrayLike<number>, shape: ImageShape, scale: number): void {
    const [height, width] = shape
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        this.fill(x + column * scale, y + row * scale, scale, scale, colourAt(values, shape, row * width + column))
      }
    }
  }

  /** A line of letters with its upper left corner at (x, y); returns where the next letter would stand. */
  text(x: number, y: number, words: string, colour: Colour, scale: number): number {
    const characters = [...words]
    characters.forEach((character, place) => {
      glyph(character).forEach((row, down) => {
        for (let across = 0; across < GLYPH_WIDTH; across++) {
          if (row[across] !== '#') continue
          this.fill(x + (place * ADVANCE + across) * scale, y + down * scale, scale, scale, colour)
        }
      })
    })
    return x + characters.length * ADVANCE * scale
  }

  /** A line of letters in the middle of a box. */
  centred(x: number, y: number, width: number, height: number, words: string, colour: Colour, scale: number): void {
    const left = x + Math.floor((width - textWidth(words, scale)) / 2)
    this.text(left, y + Math.floor((height - GLYPH_HEIGHT * scale) / 2), words, colour, scale)
  }

  png(): Uint8Array {
    return encode({ width: this.width, height: this.height, data: this.rgb, channels: 3, depth: 8 })
  }
}

export function textWidth(words: string, scale: number): number {
  return Math.max(0, [...words].length * ADVANCE - 1) * scale
}

/** Between `from` and `to`: 0 is the one, 1 the other. */
export function mixed(from: Colour, to: Colour, share: number): Colour {
  const at = (i: number) => Math.round(from[i] + share * (to[i] - from[i]))
  return [at(0), at(1), at(2)]
}

function colourAt(values: ArrayLike<number>, [, , channels]: ImageShape, pixel: number): Colour {
  const at = pixel * channels
  if (channels === 3) return [byte(values[at]), byte(values[at + 1]), byte(values[at + 2])]
  let sum = 0
  for (let i = at; i < at + channels; i++) sum += values[i]
  const grey = byte(sum / channels)
  return [grey, grey, grey]
}

/** What is no number is drawn black. */
const byte = (value: number) => Math.round(Math.min(255, Math.max(0, value))) || 0
