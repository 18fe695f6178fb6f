/**
 * Opening a compute device: by name, or the best there is. The only other way in is `dawn.ts` (WebGPU for Node).
 *
 *     const engine = await chooseEngine()                 // WebGPU → hardware WebGL → WASM → CPU
 *     const engine = await openEngine('webgl')            // this one, even in software, or an error
 *
 * A device is used only after its gradient on small nets agrees with reference values (selftest.ts).
 */
import type { BackendName } from '../../../shared/backends.ts'
import { type Backend, type BackendModule, type BackendOptions, reason, stop } from './backends/backend.ts'
import type { Engine, Trainer } from './engine.ts'
import { loadNetworkTrainer } from './network-trainer.ts'
import { loadRbmTrainer } from './rbm-trainer.ts'
import { selfTest } from './selftest.ts'

interface EngineOptions extends BackendOptions {
  /** Told of each device that was tried and not taken, while choosing. */
  onDeclined?: (error: Error) => void
}

/** Best first. Software WebGPU and WebGL are slower than WASM, so choosing skips them. */
const LADDER: readonly BackendName[] = ['webgpu', 'webgl', 'wasm', 'cpu']

const MODULES: Record<BackendName, () => Promise<BackendModule>> = {
  webgpu: () => import('./backends/webgpu.ts'),
  webgl: () => import('./backends/webgl.ts'),
  wasm: () => import('./backends/wasm.ts'),
  cpu: () => import('./backends/cpu.ts'),
}

/** Started backends, and by how many engines each is used: tfjs has one of a kind. */
const started = new Map<BackendName, { backend: Backend; engines: number }>()

/**
 * Opens this backend, software or not.
 * @throws Error that names the backend and says why: not there, does not start, or computes a wrong gradient.
 */
export function openEngine(name: BackendName, options: BackendOptions = {}): Promise<Engine> {
  return open(name, options, true)
}

/**
 * Opens `preferred` if it can be had (software or not), else the best device that passes.
 * @throws Error listing what was wrong with each, where none does.
 */
export async function chooseEngine(preferred?: BackendName, options: EngineOptions = {}): Promise<Engine> {
  const declined: Error[] = []
  for (const name of preferred ? [preferred, ...LADDER.filter((other) => other !== preferred)] : LADDER) {
    try {
      return await open(name, options, name === preferred)
    } catch (error) {
      declined.push(error as Error)
      options.onDeclined?.(error as Error)
    }
  }
  throw new Error(`no compute device can be used: ${declined.map((error) => error.message).join('; ')}`)
}

async function open(name: BackendName, options: BackendOptions, software: boolean): Promise<Engine> {
  try {
    const backend = await acquire(name, options)
    try {
      if (backend.software && !software) throw new Error(`${backend.device} is a software device, slower than WASM`)
      const engine = engineOn(backend)
      await selfTest(engine)
      return engine
    } catch (error) {
      release(name)
      throw error
    }
  } catch (error) {
    const message = reason(error)
    throw new Error(message.startsWith(`${name}: `) ? message : `${name}: ${message}`, { cause: error })
  }
}

function engineOn(backend: Backend): Engine {
  const trainers = new Set<Trainer>()
  let open = true
  return {
    backend: backend.name,
    device: backend.device,
    async load(model) {
      if (!open) throw new Error(`${backend.name}: this engine is closed`)
      const load = model.objective.kind === 'contrastive' ? loadRbmTrainer : loadNetworkTrainer
      const trainer = await load(backend, model)
      trainers.add(trainer)
      return trainer
    },
    async close() {
      if (!open) return
      open = false
      try {
        for (const trainer of trainers) trainer.dispose()
      } finally {
        release(backend.name)
      }
    },
  }
}

async function acquire(name: BackendName, options: BackendOptions): Promise<Backend> {
  const held = started.get(name)
  if (held && held.backend.lost() === null) {
    held.engines++
    return held.backend
  }
  const backend = await (await MODULES[name]()).open(options)
  started.set(name, { backend, engines: 1 })
  return backend
}

function release(name: BackendName): void {
  const held = started.get(name)
  if (!held || --held.engines > 0) return
  started.delete(name)
  stop(name)
}
