/**
 * Opens a dataset by what a RunSpec says of it: reads its files, takes the part that is asked for, and cuts it into
 * shards. Runs of the same files share one copy of them.
 */
import type { DatasetSpec } from '../../shared/run-spec.ts'
import type { Dataset } from './dataset.ts'
import type { Examples, Source } from './examples.ts'
import { readFashionMnist } from './fashion-mnist.ts'
import { readIdxFiles } from './idx-files.ts'
import { readMnist } from './mnist.ts'
import { split } from './split.ts'

export { SHARD_EXAMPLES } from './split.ts'

/** Throws where the name is unknown, a file cannot be read, or more examples are asked for than exist, saying what there is. */
export function openDataset(spec: DatasetSpec): Dataset {
  const { name, validate } = spec
  const { inputShape, classes, labelled, ...all } = shared(spec)
  const { train, test } = validate === undefined ? all : heldOut(name, inputShape, all.train, validate)
  return {
    name,
    inputShape,
    classes,
    labelled: labelled.train && (labelled.test || validate !== undefined),
    train: split(name, 'training', inputShape, first(name, 'training', inputShape, train, spec.train)),
    test: split(name, 'test', inputShape, first(name, 'test', inputShape, test, spec.test)),
  }
}

/** Kept while a run still holds its examples: a coordinator that serves for months lets go of what nobody uses. */
const open = new Map<string, WeakRef<Source>>()

function shared(spec: DatasetSpec): Source {
  const { train: _, test: __, validate: ___, ...files } = spec
  const key = JSON.stringify(files)
  const source = open.get(key)?.deref() ?? read(spec)
  open.set(key, new WeakRef(source))
  return source
}

function read(spec: DatasetSpec): Source {
  switch (spec.name) {
    case 'mnist':
      return readMnist()
    case 'fashion-mnist':
      return readFashionMnist(spec.folder)
    case 'idx':
      return readIdxFiles(spec)
    default: {
      const { name } = spec as { name: string }
      throw new Error(`there is no dataset ${name}: expected one of mnist, fashion-mnist, idx`)
    }
  }
}

const sizeOf = (inputShape: readonly number[]) => inputShape.reduce((product, dimension) => product * dimension, 1)

const between = (size: number, { inputs, labels }: Examples, from: number, to: number): Examples => ({
  count: to - from,
  inputs: inputs.subarray(from * size, to * size),
  labels: labels.subarray(from, to),
})

/** The last `validate` training examples as the test examples, and the others as the training examples. */
function heldOut(name: string, inputShape: readonly number[], train: Examples, validate: number) {
  const { count } = train
  if (!Number.isInteger(validate) || validate < 1 || validate >= count) {
    throw new Error(
      `dataset ${name} has ${count} training examples: expected validate to be from 1 to ${count - 1}, got ${validate}`,
    )
  }
  const size = sizeOf(inputShape)
  return {
    train: between(size, train, 0, count - validate),
    test: between(size, train, count - validate, count),
  }
}

function first(
  name: string,
  part: string,
  inputShape: readonly number[],
  examples: Examples,
  asked = examples.count,
): Examples {
  const { count } = examples
  if (!Number.isInteger(asked) || asked < 1 || asked > count) {
    throw new Error(`dataset ${name} has ${count} ${part} examples: expected a number from 1 to that, got ${asked}`)
  }
  return between(sizeOf(inputShape), examples, 0, asked)
}
