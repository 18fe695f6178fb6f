/**
 * How much faster is one training step (gradient and read-back) here than in stock tfjs, and how near to the speed of
 * its own forward matrix product?
 *
 *     npx tsx test/bench/compute.ts
 *
 * Each contestant is a process of its own, so stock tfjs has only its own kernels: `here` is the trainer of
 * client/volunteer/compute, `stock` tfjs-layers with variableGrads over losses.softmaxCrossEntropy, the gradients
 * concatenated and read in one transfer. One thread each, in turns; medians. Parameters and minibatch are in place
 * before the clock starts. Stock tfjs cannot train a convolution on WASM at all.
 *
 * Floating point operations of a step, two for each multiply-add of a layer's product: forward, the weights' gradient,
 * and the input's gradient in all layers but the first:  2·batch·(2·Σ MACs + Σ MACs without the first layer).
 * Biases, activations and the loss are work that counts for nothing.
 *
 * Floors: wasmMlpOverStock 4, wasmLenetOverCpu 20, wasmMlpOverForward 0.6. WebGPU joins where it is hardware
 * (`--software` lets a software adapter join, at seconds a step).
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Tensor, Tensor2D, Variable } from '@tensorflow/tfjs-core'
import type { Engine, Minibatch } from '../../client/volunteer/compute/engine.ts'
import type { BackendName } from '../../shared/backends.ts'
import { initialParameters } from '../../shared/layout.ts'
import { buildModel, type Model } from '../../shared/models.ts'
import { Random } from '../../shared/random.ts'
import type { Layer } from '../../shared/topology.ts'
import { GRID } from './grid-task.ts'
import { median, report } from './report.ts'

const ROUNDS = 7
/** Several quick steps a turn, so that a neighbour's burst does not decide a median. */
const TURN_MS = 150

const MNIST = { inputShape: [28, 28, 1], classes: 10 }
const TASKS = {
  mlp: {
    model: () => buildModel(GRID.model, MNIST, null),
    batch: GRID.batchSize,
  },
  lenet: {
    model: () => buildModel({ template: 'lenet', form: 'modern', activation: 'relu' }, MNIST, null),
    batch: 64,
  },
} as const
type TaskName = keyof typeof TASKS

/** Multiply-adds per example of each layer that multiplies. */
function macs({ topology, inputShape }: Model): number[] {
  const counts: number[] = []
  let [height, width, channels] = inputShape
  let units = height * width * channels
  for (const { class_name, config } of topology.config.layers as Layer[]) {
    if (class_name === 'Dense') {
      counts.push(units * (config.units as number))
      units = config.units as number
    } else if (class_name === 'Conv2D') {
      const [kernelHeight, kernelWidth] = config.kernel_size as number[]
      const filters = config.filters as number
      if (config.padding === 'valid') [height, width] = [height - kernelHeight + 1, width - kernelWidth + 1]
      counts.push(height * width * kernelHeight * kernelWidth * channels * filters)
      channels = filters
      units = height * width * channels
    } else if (class_name === 'MaxPooling2D') {
      ;[height, width] = [Math.floor(height / 2), Math.floor(width / 2)]
      units = height * width * channels
    }
  }
  return counts
}
const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0)
function stepFlops(task: TaskName): number {
  const counts = macs(TASKS[task].model())
  return 2 * TASKS[task].batch * (2 * sum(counts) + sum(counts.slice(1)))
}

function minibatch(batch: number): Minibatch {
  const random = new Random(1)
  return {
    inputs: Float32Array.from({ length: batch * 784 }, (_, i) => random.uniform(i)),
    labels: Uint8Array.from({ length: batch }, (_, i) => i % 10),
    keys: new Uint32Array(2 * batch),
    count: batch,
  }
}

// ---- a contestant: answers every message { task } with { ms }, one step's time ----------------------------------

type Step = () => Promise<void>
interface Contestant {
  device: string
  prepare(task: TaskName): Promise<Step>
  /** The forward matrix products of the mlp. */
  forward(): Promise<Step>
}

async function here(backend: BackendName): Promise<Contestant> {
  const { openEngine } = await import('../../client/volunteer/compute/engines.ts')
  const gpu = backend === 'webgpu' ? await (await import('../../client/volunteer/compute/dawn.ts')).dawn() : undefined
  const engine: Engine = await openEngine(backend, { gpu })
  return {
    device: engine.device,
    async prepare(task) {
      const model = TASKS[task].model()
      const batch = minibatch(TASKS[task].batch)
      const trainer = await engine.load(model)
      const parameters = initialParameters(model.layout, 1)
      return async () => {
        trainer.begin(parameters)
        await measured(async () => {
          trainer.step(batch, { localRate: 0, weight: 1 })
          await trainer.finish()
        })
      }
    },
    forward: forwardProducts,
  }
}

async function stock(backend: BackendName): Promise<Contestant> {
  const tf = await import('@tensorflow/tfjs-core')
  const tfl = await import('@tensorflow/tfjs-layers')
  if (backend === 'wasm') await import('@tensorflow/tfjs-backend-wasm')
  else if (backend === 'cpu') await import('@tensorflow/tfjs-backend-cpu')
  else {
    const { dawn } = await import('../../client/volunteer/compute/dawn.ts')
    Object.defineProperty(globalThis, 'navigator', { value: { gpu: await dawn() }, configurable: true })
    await import('@tensorflow/tfjs-backend-webgpu')
  }
  await tf.setBackend(backend)
  return {
    device: `tfjs ${tf.version_core} ${backend}`,
    async prepare(task) {
      const { topology, layout } = TASKS[task].model()
      const { inputs, labels } = minibatch(TASKS[task].batch)
      const below = structuredClone(topology)
      below.config.layers.pop()
      const model = await tfl.loadLayersModel({ load: async () => ({ modelTopology: below }) })
      const weights = model.trainableWeights.map((weight) => weight.read() as Variable)
      const parameters = initialParameters(layout, 1)
      layout.slots.forEach(({ offset, size, shape }, i) => {
        weights[i].assign(tf.tensor(parameters.slice(offset, offset + size), [...shape]))
      })
      return async () => {
        await measured(async () => {
          const flat = tf.tidy(() => {
            const x = tf.tensor(inputs, [labels.length, 28, 28, 1])
            const truth = tf.oneHot(tf.tensor1d(Int32Array.from(labels), 'int32'), 10)
            const { grads } = tf.variableGrads(
              () => tf.losses.softmaxCrossEntropy(truth, model.apply(x, { training: true }) as Tensor),
              weights,
            )
            return tf.concat(weights.map((weight) => tf.reshape(grads[weight.name], [-1])))
          })
          await flat.data()
          flat.dispose()
        })
      }
    },
    forward: forwardProducts,
  }
}

async function forwardProducts(): Promise<Step> {
  const tf = await import('@tensorflow/tfjs-core')
  const { batch } = TASKS.mlp
  const random = new Random(2)
  const draw = (rows: number, columns: number): Tensor2D =>
    tf.tensor2d(
      Float32Array.from({ length: rows * columns }, (_, i) => random.uniform(i)),
      [rows, columns],
    )
  const sizes = [784, 500, 500, 2000, 10]
  const pairs = sizes.slice(1).map((to, i) => [draw(batch, sizes[i]), draw(sizes[i], to)] as const)
  return async () => {
    await measured(async () => {
      for (const [x, weights] of pairs) tf.matMul(x, weights).dispose()
    })
  }
}

let lastMs = 0
async function measured(work: () => Promise<void>): Promise<void> {
  const before = performance.now()
  await work()
  lastMs = performance.now() - before
}

async function serve(kind: string, backend: BackendName): Promise<void> {
  const contestant = await (kind === 'here' ? here(backend) : stock(backend))
  const steps = new Map<string, Step>()
  process.on('message', async ({ task }: { task: TaskName | 'forward' }) => {
    try {
      if (!steps.has(task)) {
        const step = task === 'forward' ? await contestant.forward() : await contestant.prepare(task)
        steps.set(task, step)
        await step()
        await step()
      }
      const times: number[] = []
      for (const began = performance.now(); times.length === 0 || performance.now() - began < TURN_MS; ) {
        await steps.get(task)!()
        times.push(lastMs)
      }
      process.send!({ ms: median(times) })
    } catch (error) {
      process.send!({ error: (error as Error).message })
    }
  })
  process.send!({ device: contestant.device })
}

// ---- the contest -------------------------------------------------------------------------------------------------

interface Entry {
  kind: 'here' | 'stock'
  backend: BackendName
  task: TaskName | 'forward'
  child: ChildProcess
  times: number[]
  device: string
}

const ICD = '/usr/lib/chromium/vk_swiftshader_icd.json'

async function start(kind: string, backend: BackendName): Promise<{ child: ChildProcess; device: string }> {
  const software = process.argv.includes('--software') && existsSync(ICD)
  const child = fork(fileURLToPath(import.meta.url), ['--contestant', kind, backend], {
    execArgv: ['--import', 'tsx'],
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    env: software ? { ...process.env, VK_ICD_FILENAMES: ICD, LD_LIBRARY_PATH: dirname(ICD) } : process.env,
  })
  const gone = once(child, 'exit').then(() => [{ error: 'it does not start' }])
  const [answer] = await Promise.race([once(child, 'message'), gone])
  if (answer.error) throw new Error(answer.error)
  return { child, device: answer.device }
}

async function turn(entry: Entry): Promise<void> {
  entry.child.send({ task: entry.task })
  const [answer] = await once(entry.child, 'message')
  if (answer.error) throw new Error(`${entry.kind} ${entry.backend} ${entry.task}: ${answer.error}`)
  entry.times.push(answer.ms)
}

async function main(): Promise<void> {
  const entries: Entry[] = []
  for (const backend of ['wasm', 'cpu', 'webgpu'] as const) {
    for (const kind of ['here', 'stock'] as const) {
      try {
        const { child, device } = await start(kind, backend)
        const add = (task: TaskName | 'forward') => entries.push({ kind, backend, task, child, device, times: [] })
        add('mlp')
        if (kind === 'here' || backend !== 'wasm') add('lenet')
        if (backend === 'wasm') add('forward')
      } catch {
        console.log(`(${backend}: ${kind} has no device here)`)
        break
      }
    }
  }
  for (let round = 0; round < ROUNDS; round++) for (const entry of entries) await turn(entry)
  for (const { child } of entries) child.kill()

  const find = (kind: string, backend: BackendName, task: string) =>
    entries.find((entry) => entry.kind === kind && entry.backend === backend && entry.task === task)
  const ms = (kind: string, backend: BackendName, task: string): number =>
    median(find(kind, backend, task)?.times ?? [Number.NaN])
  const forwardFlops = 2 * TASKS.mlp.batch * sum(macs(TASKS.mlp.model()))
  const gflops = ({ task, times }: Entry): number =>
    (task === 'forward' ? forwardFlops : stepFlops(task)) / median(times) / 1e6
  const rows = entries.map((entry) => ({
    what:
      entry.task === 'forward' ? 'matMuls of mlp, forward' : `step of ${entry.task}, batch ${TASKS[entry.task].batch}`,
    device: entry.device,
    ms: median(entry.times),
    'GFLOP/s': gflops(entry),
    'times stock':
      entry.kind === 'here' ? (ms('stock', entry.backend, entry.task) || Number.NaN) / median(entry.times) : 1,
  }))
  // Forward is our own product: the faster of the two, so the harder to come near to.
  const figures = {
    wasmMlpOverStock: ms('stock', 'wasm', 'mlp') / ms('here', 'wasm', 'mlp'),
    wasmLenetOverCpu: ms('stock', 'cpu', 'lenet') / ms('here', 'wasm', 'lenet'),
    wasmMlpOverForward: gflops(find('here', 'wasm', 'mlp')!) / gflops(find('here', 'wasm', 'forward')!),
    wasmMlpOverStockForward: gflops(find('here', 'wasm', 'mlp')!) / gflops(find('stock', 'wasm', 'forward')!),
  }
  report(
    'compute',
    rows.map((row) => ({
      ...row,
      'times stock': Number.isNaN(row['times stock']) ? '-' : row['times stock'].toFixed(2),
    })),
    figures,
  )
  const floors = { wasmMlpOverStock: 4, wasmLenetOverCpu: 20, wasmMlpOverForward: 0.6 }
  for (const [name, floor] of Object.entries(floors)) {
    if (!(figures[name as keyof typeof floors] >= floor)) process.exitCode = 1
  }
}

if (process.argv[2] === '--contestant') await serve(process.argv[3], process.argv[4] as BackendName)
else await main()
