/**
 * A real coordinator for a test: `startServer` on a free port with a folder of its own, and the small specs that tests
 * train with. `close` stops it and removes the folder; `stop` only stops it, for a test that starts it again.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type RunningServer, type ServerOptions, startServer } from '../../coordinator/server.ts'
import type { RunDetail } from '../../shared/api.ts'

export interface TestCoordinator extends RunningServer {
  readonly folder: string
  /** The operator API, with the operator token; `body` is sent as JSON. */
  api(method: 'GET' | 'POST', path: string, body?: unknown): Promise<Response>
  /** Creates a run over the API. */
  createRun(spec: unknown): Promise<RunDetail>
  /** Copies of the parameters' bytes as they stand, by run. */
  bits(run: string): Buffer
  /** Stops it and leaves its folder. */
  stop(): Promise<void>
}

const folders: string[] = []

export function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'crowdgrad-test-'))
  folders.push(folder)
  return folder
}

/** Removes every folder that `newFolder` made in this process: for a test file's `afterAll`. */
export function removeFolders(): void {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
}

export async function startCoordinator(options: Partial<ServerOptions> = {}): Promise<TestCoordinator> {
  const folder = options.dataFolder ?? newFolder()
  const server = await startServer({ port: 0, ownVolunteer: false, ...options, dataFolder: folder })
  let stopped: Promise<void> | null = null
  const stop = () => {
    stopped ??= server.close()
    return stopped
  }
  const api = (method: string, path: string, body?: unknown) => operatorRequest(server, method, path, body)
  return {
    ...server,
    folder,
    api,
    async createRun(spec) {
      const response = await api('POST', '/api/runs', spec)
      const detail = await response.json()
      if (response.status !== 201) throw new Error(`the run was not created: ${JSON.stringify(detail)}`)
      return detail as RunDetail
    },
    bits(run) {
      const values = server.runs.get(run)!.parameters.snapshot()
      return Buffer.from(values.buffer, values.byteOffset, values.byteLength)
    },
    stop,
    async close() {
      await stop()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

export function operatorRequest(
  { url, token }: { url: string; token: string },
  method: string,
  path: string,
  body?: unknown,
): Promise<Response> {
  return fetch(url + path, {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  })
}

/** 600 training and 200 test digits, leases of ten examples: an epoch is 60 updates of a 7850-float softmax. */
export const SMALL = {
  name: 'Small',
  dataset: { name: 'mnist', train: 600, test: 200 },
  model: { template: 'softmax' },
  strategy: { name: 'downpour', batchSize: 10, pushEvery: 1 },
  updateRule: { name: 'sgd', rate: 0.1 },
  codec: { up: 'f32', down: 'f32' },
  stop: { epochs: 1000 },
  evaluateEveryEpochs: 0,
} as const

/** Its update in f32 is 102 kB: it travels in chunks. */
export const SMALL_CHUNKED = { ...SMALL, name: 'Small, chunked', model: { template: 'mlp', hidden: [32] } } as const

/** Resolves once `holds` does, asked again and again, ever more seldom; throws after the deadline. */
export async function until(what: string, holds: () => unknown, withinMs = 20_000): Promise<void> {
  const deadline = Date.now() + withinMs
  for (let pauseMs = 2; !(await holds()); pauseMs = Math.min(200, 1.3 * pauseMs)) {
    if (Date.now() > deadline) throw new Error(`waited ${withinMs} ms in vain until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
  }
}
