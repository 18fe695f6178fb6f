/** Datasets: IDX files, splits and shards, and what is said of files that are none. */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { gunzipSync, gzipSync } from 'node:zlib'
import { afterAll, describe, expect, test } from 'vitest'
import { openDataset } from '../../coordinator/datasets/datasets.ts'
import { parseIdx, readIdx } from '../../coordinator/datasets/idx.ts'
import { mnistFolder, readMnist } from '../../coordinator/datasets/mnist.ts'
import { SHARD_EXAMPLES } from '../../coordinator/datasets/split.ts'
import { type DatasetSpec, parseRunSpec } from '../../shared/run-spec.ts'
import { decodeShard } from '../../shared/shard.ts'

const folder = mkdtempSync(join(tmpdir(), 'crowdgrad-datasets-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** An IDX file of unsigned bytes. */
function idxFile(name: string, dimensions: number[], elements: number[], compressed = false): string {
  const header = [0, 0, 8, dimensions.length, ...dimensions.flatMap((n) => [0, 0, n >> 8, n & 255])]
  const bytes = Uint8Array.from([...header, ...elements])
  writeFileSync(join(folder, name), compressed ? gzipSync(bytes) : bytes)
  return join(folder, name)
}

/** What a dataset that cannot be opened is refused with. */
const unfit = (field: string, message: string) =>
  expect.objectContaining({ field: `dataset.${field}`, message: expect.stringContaining(message) })

async function collectGarbage(): Promise<void> {
  // What a job has made or looked at is kept to its end.
  await new Promise(setImmediate)
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

describe('IDX', () => {
  const idx = (...bytes: number[]) => Uint8Array.from(bytes)

  test('gives dimensions and elements, also of a view that does not begin at 0', () => {
    const file = idx(99, 0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6).subarray(1)
    expect(parseIdx(file)).toEqual({ dimensions: [2, 3], bytes: idx(1, 2, 3, 4, 5, 6) })
    expect(parseIdx(idx(0, 0, 8, 1, 0, 0, 1, 0, ...new Array(256).fill(7))).dimensions).toEqual([256])
    expect(parseIdx(idx(0, 0, 8, 1, 0, 0, 0, 0)).bytes).toHaveLength(0)
  })

  test.each([
    ['too short', idx(0, 0, 8), 'expected at least 4 bytes, got 3'],
    ['another magic', idx(80, 75, 3, 4), 'expected it to begin with two zero bytes, got 80 and 75'],
    ['floats', idx(0, 0, 0x0d, 1, 0, 0, 0, 1, 0, 0, 0, 0), 'expected element type 8 (unsigned byte), got 13'],
    ['rank 0', idx(0, 0, 8, 0), 'rank 0 is not possible'],
    ['a cut header', idx(0, 0, 8, 3, 0, 0, 0, 1), 'rank 3 is not possible in 8 bytes'],
    ['a byte too few', idx(0, 0, 8, 1, 0, 0, 0, 3, 1, 2), 'expected 11 bytes for dimensions 3, got 10'],
    [
      'a byte too many',
      idx(0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2),
      'expected 13 bytes for dimensions 1 × 1, got 14',
    ],
  ])('refuses %s, saying what was expected', (_, file, message) => {
    expect(() => parseIdx(file)).toThrow(message)
  })
})

describe('an IDX file', () => {
  test('is read compressed or not, and one that is neither is named', () => {
    const plain = idxFile('plain', [2, 2], [1, 2, 3, 4])
    expect(readIdx(plain, 'dataset', '')).toEqual({ dimensions: [2, 2], bytes: Uint8Array.of(1, 2, 3, 4) })
    const packed = readIdx(idxFile('packed.gz', [2, 2], [1, 2, 3, 4], true), 'dataset', '')
    expect([packed.dimensions, [...packed.bytes]]).toEqual([
      [2, 2],
      [1, 2, 3, 4],
    ])
    const torn = join(folder, 'torn.gz')
    writeFileSync(torn, gzipSync(Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 0)).subarray(0, 15))
    const text = join(folder, 'text')
    writeFileSync(text, 'PK, no IDX')
    const none = join(folder, 'none')
    for (const [path, message] of [
      [torn, `${torn} is not an IDX file: unexpected end of file`],
      [text, `${text} is not an IDX file: expected it to begin with two zero bytes, got 80 and 75`],
      [none, `cannot read ${none}: look elsewhere`],
    ]) {
      expect(() => readIdx(path, 'dataset.trainInputs', 'look elsewhere')).toThrow(
        expect.objectContaining({ field: 'dataset.trainInputs', message }),
      )
    }
  })
})

describe('MNIST', () => {
  test.each([
    ['train-images-idx3-ubyte', '6bbc9ace898e44ae57da46a324031adb'],
    ['train-labels-idx1-ubyte', 'a25bea736e30d166cdddb491f175f624'],
    ['t10k-images-idx3-ubyte', '2646ac647ad5339dbf082846283269ea'],
    ['t10k-labels-idx1-ubyte', '27ae3e4e09519cfbb04c329615203637'],
  ])('%s is the original file', (name, md5) => {
    expect(
      createHash('md5')
        .update(readFileSync(join(mnistFolder(), name)))
        .digest('hex'),
    ).toBe(md5)
  })

  test('has the known counts, labels and mean pixel', () => {
    const { train, test } = readMnist()
    expect([train.count, test.count, train.labels.length, test.labels.length]).toEqual([60000, 10000, 60000, 10000])
    expect([...train.labels.subarray(0, 10)]).toEqual([5, 0, 4, 1, 9, 2, 1, 3, 1, 4])
    expect([...test.labels.subarray(0, 5)]).toEqual([7, 2, 1, 0, 4])
    let sum = 0
    for (const pixel of train.inputs) sum += pixel
    expect(sum / 255 / train.inputs.length).toBeCloseTo(0.1306604763, 10)
  })

  test('files that are missing or of another size are named', () => {
    const folder = mkdtempSync(join(tmpdir(), 'crowdgrad-mnist-'))
    try {
      expect(() => readMnist(folder)).toThrow(`cannot read ${join(folder, 'train-images-idx3-ubyte')}`)
      mkdirSync(join(folder, 'small'))
      const small = Uint8Array.of(0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 5)
      writeFileSync(join(folder, 'small', 'train-images-idx3-ubyte'), small)
      expect(() => readMnist(join(folder, 'small'))).toThrow('expected 60000 × 28 × 28 bytes, got 1 × 1 × 1')
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})

/** Debian's package dataset-fashion-mnist, where it is installed. */
const FASHION = '/usr/share/datasets/fashion-mnist'

describe('Fashion-MNIST', () => {
  test.runIf(existsSync(FASHION))('has the known counts, labels and mean pixel', () => {
    const dataset = openDataset({ name: 'fashion-mnist', folder: FASHION })
    expect(dataset).toMatchObject({ inputShape: [28, 28, 1], classes: 10 })
    expect([dataset.train.examples, dataset.test.examples]).toEqual([60000, 10000])
    const labels = (split: typeof dataset.train, count: number) =>
      Array.from({ length: count }, (_, i) => split.example(i).label)
    expect(labels(dataset.train, 10)).toEqual([9, 0, 0, 3, 0, 2, 7, 2, 5, 5])
    expect(labels(dataset.test, 5)).toEqual([9, 2, 1, 1, 6])
    let sum = 0
    for (let i = 0; i < 60000; i++) for (const pixel of dataset.train.example(i).input) sum += pixel
    expect(sum / 255 / 60000 / 784).toBeCloseTo(0.2860406, 6)
  })

  test('that is not installed says how to get it', () => {
    const open = (folder: string) => () => openDataset({ name: 'fashion-mnist', folder })
    expect(open('/nowhere')).toThrow(
      'there is no folder /nowhere: apt-get install dataset-fashion-mnist, or give dataset.folder',
    )
    expect(open(folder)).toThrow(`cannot read ${join(folder, 'train-images-idx3-ubyte.gz')}: apt-get install`)
  })
})

describe("an operator's own IDX files", () => {
  const trainInputs = idxFile('train', [3, 2, 2], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], true)
  const testInputs = idxFile('test', [2, 2, 2], [21, 22, 23, 24, 25, 26, 27, 28])
  const trainLabels = idxFile('train-labels', [3], [0, 4, 2])
  const testLabels = idxFile('test-labels', [2], [1, 5], true)
  const bare = { name: 'idx', trainInputs, testInputs } as const

  test('are a dataset of their shape, with as many classes as the largest label says', () => {
    const dataset = openDataset({ ...bare, trainLabels, testLabels })
    expect(dataset).toMatchObject({ name: 'idx', inputShape: [2, 2, 1], classes: 6 })
    expect(dataset.train.example(1)).toEqual({ input: Uint8Array.of(5, 6, 7, 8), label: 4 })
    const shard = decodeShard(gunzipSync(dataset.test.shard(0).bytes))
    expect([shard.examples, [...shard.labels], [...shard.inputs]]).toEqual([
      2,
      [1, 5],
      [21, 22, 23, 24, 25, 26, 27, 28],
    ])
  })

  test('need no labels', () => {
    const dataset = openDataset(bare)
    expect(dataset).toMatchObject({ classes: 1 })
    expect(dataset.train.example(2).label).toBe(0)
  })

  test.each<[string, number[], number[]]>([
    ['vectors', [2, 3], [3]],
    ['grey images', [2, 3, 4], [3, 4, 1]],
    ['colour images', [2, 3, 4, 3], [3, 4, 3]],
  ])('can be %s', (name, dimensions, inputShape) => {
    const path = idxFile(`of ${name}`, dimensions, new Array(dimensions.reduce((a, b) => a * b)).fill(0))
    expect(openDataset({ name: 'idx', trainInputs: path, testInputs: path }).inputShape).toEqual(inputShape)
  })

  test('that do not belong together are refused, named', () => {
    const open = (paths: object) => () => openDataset({ ...bare, ...paths })
    expect(open({ trainLabels: testLabels })).toThrow(
      unfit('trainLabels', `${testLabels} holds other labels: expected 3, one an example, got 2`),
    )
    expect(open({ trainLabels: trainInputs })).toThrow('expected 3, one an example, got 3 × 2 × 2')
    expect(open({ testInputs: testLabels })).toThrow(unfit('testInputs', `${testLabels} holds no inputs`))
    const wide = idxFile('wide', [2, 4], [1, 2, 3, 4, 5, 6, 7, 8])
    expect(open({ testInputs: wide })).toThrow(
      unfit('testInputs', `${wide} does not go with ${trainInputs}: expected examples of 2 × 2 × 1, got 4`),
    )
    expect(open({ testInputs: '/nowhere' })).toThrow(
      unfit('testInputs', "cannot read /nowhere: expected a path on the coordinator's machine"),
    )
    expect(open({ testInputs: `${trainInputs}/within` })).toThrow(unfit('testInputs', 'cannot read'))
    expect(open({ trainLabels: folder })).toThrow(unfit('trainLabels', 'cannot read'))
  })
})

describe('examples that are held out', () => {
  test('are the last of the training examples, and the test set is not touched', () => {
    const all = readMnist().train
    const { train, test } = openDataset({ name: 'mnist', validate: 5000 })
    expect([train.examples, test.examples]).toEqual([55000, 5000])
    for (const [split, index, at] of [
      [train, 54999, 54999],
      [test, 0, 55000],
      [test, 4999, 59999],
    ] as const) {
      const { input, label } = split.example(index)
      expect(label).toBe(all.labels[at])
      expect(Buffer.compare(input, all.inputs.subarray(at * 784, (at + 1) * 784))).toBe(0)
    }
    const shard = decodeShard(gunzipSync(test.shard(4).bytes))
    expect(Buffer.compare(shard.labels, all.labels.subarray(59000))).toBe(0)
  })

  test('can themselves be a part of all', () => {
    const { train, test } = openDataset({ name: 'mnist', validate: 5000, train: 100, test: 10 })
    expect([train.examples, test.examples]).toEqual([100, 10])
    expect(test.example(0).label).toBe(readMnist().train.labels[55000])
  })

  test('must leave some to train on', () => {
    const open = (spec: object) => () => openDataset({ name: 'mnist', ...spec } as DatasetSpec)
    expect(open({ validate: 60000 })).toThrow(
      unfit('validate', 'expected 1 to 59999 of the 60000 training examples, got 60000'),
    )
    expect(open({ validate: 10000, train: 50001 })).toThrow(
      unfit('train', 'expected 1 to 50000, the training examples there are, got 50001'),
    )
    expect(open({ validate: 10000, test: 10001 })).toThrow(
      unfit('test', 'expected 1 to 10000, the test examples there are, got 10001'),
    )
  })
})

describe('a dataset', () => {
  test('is opened by what a RunSpec says of it', () => {
    const parsed = parseRunSpec({ dataset: { name: 'mnist' }, model: { template: 'softmax' }, stop: { epochs: 1 } })
    if (!parsed.ok) throw new Error('expected a spec')
    expect(openDataset(parsed.spec.dataset)).toMatchObject({ classes: 10 })
  })

  test('is cut into shards that hold every example in order', () => {
    const mnist = readMnist()
    const dataset = openDataset({ name: 'mnist' })
    expect(dataset).toMatchObject({ name: 'mnist', inputShape: [28, 28, 1], classes: 10 })
    expect([dataset.train.examples, dataset.train.shards, dataset.test.shards]).toEqual([60000, 60, 10])
    for (const [split, all] of [
      [dataset.train, mnist.train],
      [dataset.test, mnist.test],
    ] as const) {
      for (const index of [0, 7, split.shards - 1]) {
        const { hash, bytes } = split.shard(index)
        expect(hash).toBe(sha256(bytes))
        const shard = decodeShard(gunzipSync(bytes))
        expect([shard.examples, ...shard.inputShape]).toEqual([1000, 28, 28, 1])
        const from = index * SHARD_EXAMPLES
        expect(Buffer.compare(shard.inputs, all.inputs.subarray(from * 784, (from + 1000) * 784))).toBe(0)
        expect(Buffer.compare(shard.labels, all.labels.subarray(from, from + 1000))).toBe(0)
      }
    }
  })

  test('can be a part of all examples; the last shard is shorter', () => {
    const { train, test } = openDataset({ name: 'mnist', train: 2300, test: 1 })
    expect([train.examples, train.shards, test.examples, test.shards]).toEqual([2300, 3, 1, 1])
    expect(decodeShard(gunzipSync(train.shard(2).bytes)).examples).toBe(300)
    expect([...decodeShard(gunzipSync(test.shard(0).bytes)).labels]).toEqual([7])
    expect(train.shard(0).hash).toBe(openDataset({ name: 'mnist' }).train.shard(0).hash)
  })

  test('its shards have the same bytes every time and everywhere, and are made once', () => {
    const { train } = openDataset({ name: 'mnist' })
    const again = openDataset({ name: 'mnist' }).train
    expect(train.shard(3)).toBe(train.shard(3))
    expect(again.shard(3).hash).toBe(train.shard(3).hash)
    expect(train.shard(3).hash).not.toBe(train.shard(4).hash)
    // What they hold is fixed for ever. How it is compressed may change with Node's zlib, and then caches are cold
    // once.
    expect(sha256(gunzipSync(train.shard(0).bytes))).toBe(
      'f8a58564b708d8565bf46bbd1e588dcb6d3a092a42d45ecef28e5e4a5c0085ef',
    )
    // No time, no name of a file, no operating system in the header.
    expect([...train.shard(0).bytes.subarray(0, 10)]).toEqual([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255])
    expect(train.shard(0).bytes.length).toBeLessThan(200_000)
    expect(train.shard(0).bytes.buffer.byteLength).toBe(train.shard(0).bytes.length)
  })

  test('more examples than exist are refused, saying what there is', () => {
    const open = (dataset: object) => () => openDataset(dataset as DatasetSpec)
    expect(open({ name: 'mnist', train: 60001 })).toThrow(unfit('train', 'expected 1 to 60000'))
    expect(open({ name: 'mnist', test: 10001 })).toThrow(unfit('test', 'got 10001'))
  })

  test('is shared by all that are of the same files while one of them is in use', async () => {
    const some = openDataset({ name: 'mnist', train: 10 })
    await collectGarbage()
    expect(openDataset({ name: 'mnist', train: 10 })).toBe(some)
    const { buffer } = openDataset({ name: 'mnist', train: 20 }).train.example(15).input
    expect(buffer === some.train.example(0).input.buffer).toBe(true)
  })

  test("an operator's own file that was written anew is read anew", () => {
    const path = idxFile('rewritten', [1, 2], [1, 2])
    const open = () => openDataset({ name: 'idx', trainInputs: path, testInputs: path })
    const before = open()
    idxFile('rewritten', [2, 2], [3, 4, 5, 6])
    expect([before.train.examples, open().train.examples]).toEqual([1, 2])
  })

  test('a shard that does not exist is a fault of the caller', () => {
    const { test: split } = openDataset({ name: 'mnist' })
    for (const index of [-1, 10, 0.0005, Number.NaN]) {
      expect(() => split.shard(index)).toThrow('invariant: dataset mnist has test shards 0 to 9')
      expect(() => split.example(index * 1000)).toThrow('invariant: dataset mnist has test examples 0 to 9999')
    }
  })
})
