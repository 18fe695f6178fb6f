/** Pictures, pixel by pixel: on small cases whose every pixel can be told beforehand. */
import { decode } from 'fast-png'
import { describe, expect, test } from 'vitest'
import type { Split } from '../../coordinator/datasets/dataset.ts'
import { split } from '../../coordinator/datasets/split.ts'
import { confusion, countsOf } from '../../coordinator/pictures/confusion.ts'
import { filters, tilesOf } from '../../coordinator/pictures/filters.ts'
import { MISTAKES_MAX, mistakes, mistakesIn } from '../../coordinator/pictures/mistakes.ts'
import { type Colour, type ImageShape, mixed, Raster } from '../../coordinator/pictures/raster.ts'
import { chosen, reconstructions } from '../../coordinator/pictures/reconstructions.ts'
import { type Tested, testedOf } from '../../coordinator/pictures/tested.ts'

const WHITE: Colour = [255, 255, 255]
const BLACK: Colour = [0, 0, 0]
const SHEET: Colour = [28, 31, 39]
const INK: Colour = [236, 234, 228]
const AMBER: Colour = [240, 169, 92]

const at = ({ rgb, width }: Raster, x: number, y: number): Colour => {
  const from = 3 * (y * width + x)
  return [rgb[from], rgb[from + 1], rgb[from + 2]]
}

/** A part of a picture as text: each colour as its letter, anything else as `?`. */
function art(raster: Raster, x: number, y: number, width: number, height: number, letters: Record<string, Colour>) {
  const letter = new Map(Object.entries(letters).map(([name, colour]) => [String(colour), name]))
  return Array.from({ length: height }, (_, row) =>
    Array.from({ length: width }, (_, column) => letter.get(String(at(raster, x + column, y + row))) ?? '?').join(''),
  )
}

/** Lines of letters side by side, one pixel between them, each pixel two by two. */
const lettered = (...lines: string[][]) =>
  lines.flatMap((letters) => {
    const wide = [...letters.join('.')].map((pixel) => pixel + pixel).join('')
    return [wide, wide]
  })

/** Every pixel that is not as `expected` says. */
function unlike(raster: Raster, expected: (x: number, y: number) => Colour): string[] {
  const found: string[] = []
  for (let y = 0; y < raster.height; y++) {
    for (let x = 0; x < raster.width; x++) {
      const [is, should] = [at(raster, x, y), expected(x, y)]
      if (String(is) !== String(should)) found.push(`(${x}, ${y}) is ${is}, not ${should}`)
    }
  }
  return found
}

function digits(inputs: number[][], labels: number[], shape: ImageShape): Split {
  const examples = { count: labels.length, inputs: Uint8Array.from(inputs.flat()), labels: Uint8Array.from(labels) }
  return split('drawn', 'test', [...shape], examples)
}

describe('a raster', () => {
  test('is the PNG file that another reader reads', () => {
    const raster = new Raster(3, 2, [1, 2, 3])
    raster.fill(1, 1, 5, 5, [250, 0, 7])
    const png = decode(raster.png())
    expect([png.width, png.height, png.channels, png.depth]).toEqual([3, 2, 3, 8])
    expect([...png.data]).toEqual([1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 250, 0, 7, 250, 0, 7])
  })

  test('shows one channel as grey, three as colours, others as their mean, and what is no number as black', () => {
    const raster = new Raster(2, 1, WHITE)
    const shows = (values: number[], channels: number) => {
      raster.image(0, 0, values, [1, 2, channels], 1)
      return [at(raster, 0, 0), at(raster, 1, 0)]
    }
    expect(shows([0, 300], 1)).toEqual([BLACK, WHITE])
    expect(shows([10, 20, 30, -1, 99.5, Number.NaN], 3)).toEqual([
      [10, 20, 30],
      [0, 100, 0],
    ])
    expect(shows([10, 30, 200, 100], 2)).toEqual([
      [20, 20, 20],
      [150, 150, 150],
    ])
  })

  test('has letters, each pixel as large as is asked for', () => {
    const raster = new Raster(26, 16, WHITE)
    expect(raster.text(1, 1, '1→', BLACK, 2)).toBe(25)
    expect(art(raster, 1, 1, 23, 14, { '#': BLACK, '.': WHITE })).toEqual(
      [
        '....##.................',
        '..####..........##.....',
        '....##............##...',
        '....##......##########.',
        '....##............##...',
        '....##..........##.....',
        '..######...............',
      ].flatMap((row) => [row, row]),
    )
    expect(() => raster.text(0, 0, 'ß', BLACK, 1)).toThrow('invariant: the font has no "ß"')
  })
})

describe('filters', () => {
  test("are a dense layer's columns in the input's shape, grey around zero, one pixel between", () => {
    // [2 · 2, 2]: unit 0 has 1, 0, -1, 0.5, unit 1 -0.25, 0, 0, 0.
    const values = Float32Array.from([1, -0.25, 0, 0, -1, 0, 0.5, 0])
    const raster = filters({ values, shape: [2, 2, 1], units: 2 })
    expect([raster.width, raster.height]).toEqual([2 * 57 + 1, 58])
    const grey = [
      [255, 128, 0, 191],
      [96, 128, 128, 128],
    ]
    expect(
      unlike(raster, (x, y) => {
        if (x % 57 === 0 || y % 57 === 0) return SHEET
        const tile = Math.floor(x / 57)
        const element = 2 * Math.floor(((y - 1) % 57) / 28) + Math.floor(((x - 1) % 57) / 28)
        const value = grey[tile][element]
        return [value, value, value]
      }),
    ).toEqual([])
  })

  test("are a convolution's kernels, enlarged, colours where the input has three", () => {
    // [1, 1, 3, 2]
    const raster = filters({ values: Float32Array.from([1, 0, -1, 0, 0, 1]), shape: [1, 1, 3], units: 2 })
    expect([raster.width, raster.height]).toEqual([2 * 57 + 1, 58])
    expect([at(raster, 1, 1), at(raster, 56, 56), at(raster, 58, 1), at(raster, 113, 56)]).toEqual([
      [255, 0, 128],
      [255, 0, 128],
      [128, 128, 255],
      [128, 128, 255],
    ])
    const five = filters({ values: new Float32Array(25 * 6), shape: [5, 5, 1], units: 6 })
    expect([five.width, five.height]).toEqual([3 * 56 + 1, 2 * 56 + 1])
    expect(unlike(five, (x, y) => (x % 56 === 0 || y % 56 === 0 ? SHEET : [128, 128, 128]))).toEqual([])
  })

  test('are a hundred at most, in full rectangles, fewer where they are large', () => {
    const size = (units: number, shape: ImageShape = [28, 28, 1]) => {
      const { width, height } = filters({ values: new Float32Array(units * shape[0] * shape[1]), shape, units })
      return [(width - 1) / 57, (height - 1) / 57]
    }
    expect([10, 500, 7, 1].map((units) => size(units))).toEqual([
      [5, 2],
      [10, 10],
      [3, 3],
      [1, 1],
    ])
    expect(tilesOf({ shape: [400, 400, 3], units: 500 })).toBe(9)
    expect(tilesOf({ shape: [4000, 2000, 1], units: 500 })).toBe(1)
  })

  test('keep their contrast beside one weight that is far out, and survive one that is no number', () => {
    const values = new Float32Array(400).fill(-0.1)
    values.set([1000, Number.NaN], 10)
    const raster = filters({ values, shape: [20, 20, 1], units: 1 })
    const pixel = (element: number) => at(raster, 1 + 2 * (element % 20), 1 + 2 * Math.floor(element / 20))
    expect([pixel(0), pixel(10), pixel(11)]).toEqual([BLACK, WHITE, BLACK])
  })
})

describe('the last test', () => {
  test('is read example by example: a class byte each, then the losses', () => {
    const outcomes = new Uint8Array(1 + 10)
    const view = new DataView(outcomes.buffer, 1)
    outcomes.set([2, 0], 1)
    view.setFloat32(2, 1.5, true)
    view.setFloat32(6, 0.25, true)
    const part = digits([[0], [0]], [2, 1], [1, 1, 1])
    expect(testedOf(outcomes.subarray(1), part)).toEqual([
      { example: 0, label: 2, predicted: 2, loss: 1.5 },
      { example: 1, label: 1, predicted: 0, loss: 0.25 },
    ])
    expect(() => testedOf(new Uint8Array(5), part)).toThrow('invariant: outcomes of 1 test examples, expected 2')
  })
})

const tested = (pairs: [label: number, predicted: number, loss: number][]): Tested[] =>
  pairs.map(([label, predicted, loss], example) => ({ example, label, predicted, loss }))

describe('the confusion matrix', () => {
  const counts = countsOf(
    tested([
      [0, 0, 1],
      [0, 0, 1],
      [0, 0, 1],
      [0, 1, 1],
      [1, 1, 1],
      // A byte, but no class.
      [1, 200, 1],
    ]),
    2,
  )

  test('counts true classes by what they were taken for', () => {
    expect(counts).toEqual([
      [3, 1],
      [0, 1],
    ])
  })

  test('has a row for each true class and a column for each predicted one, shaded, and zero left empty', () => {
    const raster = confusion(counts)
    // Letters of scale 2: a cell is 22 × 30, TRUE 46 wide with 16 beside it, two rows of headings.
    const [left, top] = [62, 62]
    expect([raster.width, raster.height]).toEqual([left + 2 * 23 + 8, top + 2 * 31 + 8])
    const corner = (row: number, column: number) => at(raster, left + 23 * column, top + 31 * row)
    const PEN: Colour = [44, 73, 200]
    expect([corner(0, 0), corner(0, 1), corner(1, 0), corner(1, 1)]).toEqual([
      mixed(WHITE, PEN, 0.15 + 0.85 * 0.75),
      AMBER,
      [244, 243, 239],
      mixed(WHITE, PEN, 1),
    ])
    const cell = { '.': corner(0, 0), '#': WHITE }
    expect(art(raster, left + 6, top + 8, 10, 14, cell)).toEqual(
      lettered(['#####'], ['...#.'], ['..#..'], ['...#.'], ['....#'], ['#...#'], ['.###.']),
    )
    expect(new Set(art(raster, left, top + 31, 22, 30, { '.': [244, 243, 239] }))).toEqual(new Set(['.'.repeat(22)]))
  })

  test('can be drawn for as many classes as a byte names', () => {
    const many = Array.from({ length: 256 }, () => new Array<number>(256).fill(0))
    many[255][255] = 12_345
    const { width, height } = confusion(many)
    expect(Math.max(width, height)).toBeLessThan(2_000)
  })
})

describe('mistakes', () => {
  const shape: ImageShape = [1, 1, 1]

  test('are those classified wrong, the highest loss first', () => {
    const all = tested([
      [1, 1, 9],
      [2, 1, 3],
      [0, 1, Number.NaN],
      [0, 2, Number.POSITIVE_INFINITY],
      [1, 0, 5],
    ])
    expect(mistakesIn(all).map(({ example }) => example)).toEqual([2, 3, 4, 1])
  })

  test('are shown with true → predicted below', () => {
    const part = digits([[255], [0]], [4, 7], shape)
    const raster = mistakes(
      mistakesIn(
        tested([
          [4, 4, 1],
          [7, 9, 2],
        ]),
      ),
      part,
      shape,
    )
    expect([raster.width, raster.height]).toEqual([84 + 12, 6 + 84 + 6 + 14 + 12])
    expect(at(raster, 6, 6)).toEqual(BLACK)
    expect(at(raster, 89, 89)).toEqual(BLACK)
    expect([at(raster, 5, 6), at(raster, 90, 6), at(raster, 6, 90)]).toEqual([SHEET, SHEET, SHEET])
    // Three letters of 2 · 6, less the last gap: 34 of 84 pixels.
    expect(art(raster, 6 + 25, 96, 34, 14, { '.': SHEET, '#': INK, o: AMBER })).toEqual(
      lettered(
        ['#####', '.....', '.ooo.'],
        ['....#', '..#..', 'o...o'],
        ['...#.', '...#.', 'o...o'],
        ['..#..', '#####', '.oooo'],
        ['.#...', '...#.', '....o'],
        ['.#...', '..#..', '...o.'],
        ['.#...', '.....', '.oo..'],
      ),
    )
  })

  test('are twenty-five at most, five in a row', () => {
    const wrong = tested(Array.from({ length: 40 }, () => [0, 1, 1]))
    const part = digits(new Array(40).fill([9]), new Array(40).fill(0), shape)
    const { width, height } = mistakes(wrong, part, shape)
    expect([MISTAKES_MAX, (width - 6) / 90, (height - 6) / (84 + 14 + 18)]).toEqual([25, 5, 5])
  })
})

describe('reconstructions', () => {
  test('stand below their examples, and the squared error below both', () => {
    const raster = reconstructions(
      [{ input: Uint8Array.from([255, 0]), output: Float64Array.from([51, 127.6]), squaredError: 0.89 }],
      [1, 2, 1],
    )
    expect([raster.width, raster.height]).toEqual([84 + 12, 42 + 6 + 42 + 6 + 14 + 12 + 6])
    const grey = (x: number, y: number) => at(raster, x, y)[0]
    expect([grey(6, 6), grey(47, 47), grey(48, 6), grey(89, 47)]).toEqual([255, 255, 0, 0])
    expect([grey(6, 54), grey(47, 95), grey(48, 54), grey(89, 95)]).toEqual([51, 51, 128, 128])
    expect(art(raster, 6 + 19, 102, 46, 14, { '.': SHEET, '#': INK })).toEqual(
      lettered(
        ['.###.', '.....', '.###.', '.###.'],
        ['#...#', '.....', '#...#', '#...#'],
        ['#..##', '.....', '#...#', '#...#'],
        ['#.#.#', '.....', '.###.', '.####'],
        ['##..#', '.....', '#...#', '....#'],
        ['#...#', '.##..', '#...#', '...#.'],
        ['.###.', '.##..', '.###.', '.##..'],
      ),
    )
  })

  test('are of the first example of each class, and of as many others as make ten', () => {
    const labels = [3, 3, 1, 0, 1, 3, 0, 0, 0, 0, 0, 2]
    const part = digits(
      labels.map(() => [0]),
      labels,
      [1, 1, 1],
    )
    expect(chosen(part)).toEqual([3, 2, 11, 0, 1, 4, 5, 6, 7, 8])
    expect(chosen(digits([[0], [0]], [1, 0], [1, 1, 1]))).toEqual([1, 0])
    const many = Array.from({ length: 30 }, (_, i) => 29 - i)
    expect(
      chosen(
        digits(
          many.map(() => [0]),
          many,
          [1, 1, 1],
        ),
      ),
    ).toEqual([9, 8, 7, 6, 5, 4, 3, 2, 1, 0])
  })
})
