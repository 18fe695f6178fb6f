/** The operator API as `fetch` sees it: runs are created, watched, paused and stopped, and models taken away. */
import * as tf from '@tensorflow/tfjs-core'
import '@tensorflow/tfjs-backend-cpu'
import { loadLayersModel, type Sequential } from '@tensorflow/tfjs-layers'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { LiveEvent, RunDetail, RunMetrics } from '../../shared/api.ts'
import { buildModel } from '../../shared/models.ts'
import { parseRunSpec } from '../../shared/run-spec.ts'
import {
  newFolder,
  removeFolders,
  SMALL,
  startCoordinator,
  type TestCoordinator,
  until,
} from '../support/coordinator.ts'
import { expectOk, SyntheticVolunteer } from '../support/synthetic-volunteer.ts'

let coordinator: TestCoordinator
let skippedMs = 0
beforeAll(async () => {
  coordinator = await startCoordinator({ now: () => Date.now() + skippedMs })
})
afterAll(async () => {
  await coordinator?.close()
  removeFolders()
})

const get = async (path: string) => (await coordinator.api('GET', path)).json()
const text = expect.any(String)
const number = expect.any(Number)

describe('runs', () => {
  test('a run is created, listed newest first, and told in every documented field', async () => {
    const created = await coordinator.api('POST', '/api/runs', SMALL)
    expect(created.status).toBe(201)
    const detail = (await created.json()) as RunDetail
    const parsed = parseRunSpec(SMALL)
    expect(detail).toEqual({
      run: expect.stringMatching(/^r[0-9a-f]{8}$/),
      name: 'Small',
      state: 'running',
      reason: null,
      stage: 'train',
      epoch: 0,
      epochs: 1000,
      progress: 0,
      testAccuracy: null,
      testLoss: null,
      testMeasure: null,
      stages: [{ name: 'train', epochs: 1000 }],
      trainLoss: null,
      versions: 0,
      examples: 0,
      updatesAccepted: 0,
      updatesRefused: 0,
      meanStaleness: 0,
      bytesUp: 0,
      bytesDown: 0,
      seconds: number,
      examplesPerSecond: 0,
      createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      modelPath: expect.stringMatching(/^\/api\/runs\/r[0-9a-f]{8}\/model\.json$/),
      parameters: 7850,
      volunteers: [],
      spec: parsed.ok && parsed.spec,
    } satisfies Record<keyof RunDetail, unknown>)

    const second = await coordinator.createRun({ ...SMALL, name: 'Second' })
    const { runs } = (await get('/api/runs')) as { runs: RunDetail[] }
    expect(runs.map(({ run }) => run)).toEqual([second.run, detail.run])
    expect(await get(`/api/runs/${second.run}`)).toMatchObject({ run: second.run, name: 'Second' })
  })

  test('what volunteers do shows in the run, in its volunteers and in its curves', async () => {
    const { run } = await coordinator.createRun({ ...SMALL, evaluateEveryEpochs: 0.05 })
    const volunteer = await SyntheticVolunteer.join(coordinator.url, { run })
    await volunteer.work(3)
    skippedMs += 2_000
    await volunteer.work(1)
    const trusted = await SyntheticVolunteer.join(coordinator.url, { trustKey: coordinator.trustKey })
    expect(trusted.welcome.trusted).toBe(true)
    const { lease, start } = await trusted.begin()
    expect([lease.kind, lease.run]).toEqual(['evaluate', run])
    expectOk('update', await trusted.send(lease, start))

    const detail = (await get(`/api/runs/${run}`)) as RunDetail
    expect(detail).toMatchObject({
      examples: 40,
      updatesAccepted: 4,
      updatesRefused: 0,
      versions: 4,
      epoch: 40 / 600,
      bytesUp: 4 * 31_400,
      meanStaleness: 0,
      trainLoss: 1,
      testLoss: 1,
      testAccuracy: 0.5,
    })
    expect(detail.seconds).toBeGreaterThanOrEqual(2)
    expect(detail.examplesPerSecond).toBeCloseTo(40 / detail.seconds, 1)
    expect(detail.bytesDown).toBeGreaterThan(0)
    expect(detail.volunteers.find((one) => one.volunteer === volunteer.welcome.volunteer)).toEqual({
      volunteer: volunteer.welcome.volunteer,
      backend: 'cpu',
      device: 'synthetic',
      trusted: false,
      connected: true,
      leases: 0,
      examples: 40,
      updatesAccepted: 4,
      updatesRefused: 0,
      examplesPerSecond: number,
      lastSeen: text,
    })
    const metrics = (await get(`/api/runs/${run}/metrics`)) as RunMetrics
    expect(metrics.run).toBe(run)
    expect(metrics.train).toEqual([
      {
        stage: 'train',
        seconds: number,
        examples: 40,
        epoch: 40 / 600,
        loss: 1,
        accuracy: 0.5,
        examplesPerSecond: number,
        staleness: 0,
        volunteers: 1,
      },
    ])
    expect(metrics.test).toEqual([
      {
        seconds: number,
        examples: number,
        epoch: number,
        version: start.version,
        stage: 'train',
        loss: 1,
        accuracy: 0.5,
        measure: null,
        trainMeasure: null,
      },
    ])
    volunteer.close()
    await until('it is seen to be gone', async () => {
      const { volunteers } = (await get(`/api/runs/${run}`)) as RunDetail
      return volunteers.some((one) => one.volunteer === volunteer.welcome.volunteer && !one.connected)
    })
    trusted.close()
  })

  test('pause, resume and stop change the state and what volunteers get, and outlast a restart', async () => {
    const dataFolder = newFolder()
    let other = await startCoordinator({ dataFolder })
    const { run } = await other.createRun(SMALL)
    const volunteer = await SyntheticVolunteer.join(other.url, { run })
    const move = async (verb: string) =>
      (await (await other.api('POST', `/api/runs/${run}/${verb}`)).json()) as RunDetail
    const { lease, start } = await volunteer.begin()

    expect(await move('pause')).toMatchObject({ run, state: 'paused', reason: null })
    expectOk('update', await volunteer.send(lease, start))
    const waiting = volunteer.lease()
    let granted = false
    void waiting.then(() => {
      granted = true
    })
    await volunteer.ask('giveBack', { lease: lease.id })
    expect(granted, 'a lease while the run is paused').toBe(false)
    expect(await move('resume')).toMatchObject({ state: 'running' })
    await waiting
    await move('pause')
    volunteer.close()
    const before = other.bits(run)
    await other.stop()

    other = await startCoordinator({ dataFolder })
    expect(await (await other.api('GET', `/api/runs/${run}`)).json()).toMatchObject({ state: 'paused', examples: 10 })
    expect(other.bits(run).equals(before)).toBe(true)
    expect(await move('stop')).toMatchObject({ state: 'finished' })
    await other.stop()
    other = await startCoordinator({ dataFolder })
    expect(await (await other.api('GET', `/api/runs/${run}`)).json()).toMatchObject({ state: 'finished' })
    await other.close()
  })

  test('live events tell of a new run, of its changes and of its points, and end with the coordinator', async () => {
    let skipMs = 0
    const other = await startCoordinator({ now: () => Date.now() + skipMs })
    const headers = { authorization: `Bearer ${other.token}` }
    const response = await fetch(`${other.url}/api/events`, { headers })
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/)
    expect(response.headers.get('cache-control')).toBe('no-store')
    const events: LiveEvent[] = []
    const ended = (async () => {
      let rest = ''
      for await (const bytes of response.body!) {
        const blocks = (rest + new TextDecoder().decode(bytes)).split('\n\n')
        rest = blocks.pop()!
        for (const block of blocks) {
          expect(block).toMatch(/^(: \w+|data: \{.*\})$/)
          if (block.startsWith('data: ')) events.push(JSON.parse(block.slice(6)))
        }
      }
    })()
    const { run } = await other.createRun({ ...SMALL, evaluateEveryEpochs: 0.02 })
    const has = (type: string, wanted: (event: LiveEvent) => boolean = () => true) =>
      until(`a ${type} event`, () => events.some((event) => event.type === type && wanted(event)))
    await has('run', (event) => event.type === 'run' && event.run.run === run && event.run.state === 'running')
    const volunteer = await SyntheticVolunteer.join(other.url, { run })
    await volunteer.work(2)
    skipMs += 2_000
    await volunteer.work(1)
    await has('train', (event) => event.type === 'train' && event.run === run && event.point.examples === 30)
    const trusted = await SyntheticVolunteer.join(other.url, { trustKey: other.trustKey })
    await trusted.work(1)
    await has('test', (event) => event.type === 'test' && event.run === run && event.point.accuracy === 0.5)
    await other.api('POST', `/api/runs/${run}/stop`)
    await has('run', (event) => event.type === 'run' && event.run.state === 'finished')
    volunteer.close()
    trusted.close()
    await other.close()
    await ended
  })

  test('more than 600 requests in a minute are told to wait', async () => {
    const other = await startCoordinator()
    const statuses = new Map<number, number>()
    for (let i = 0; i < 65; i++) {
      const ten = await Promise.all(Array.from({ length: 10 }, () => other.api('GET', '/api/runs/atlantis')))
      for (const { status } of ten) statuses.set(status, (statuses.get(status) ?? 0) + 1)
    }
    expect([...statuses]).toEqual([
      [404, 600],
      [429, 50],
    ])
    const refused = await other.api('GET', '/api/runs')
    expect(await refused.json()).toMatchObject({ error: { code: 'rate-limited' } })
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    expect((await fetch(`${other.url}/healthz`)).status).toBe(200)
    await other.close()
  })
})

describe('the model', () => {
  let run: string
  let weights: Float32Array
  const { layout } = buildModel(SMALL.model, { inputShape: [28, 28, 1], classes: 10 }, null)
  beforeAll(async () => {
    run = (await coordinator.createRun(SMALL)).run
    const volunteer = await SyntheticVolunteer.join(coordinator.url, { run })
    await volunteer.work(5)
    volunteer.close()
    const bits = coordinator.bits(run)
    weights = new Float32Array(bits.buffer, bits.byteOffset, bits.length / 4)
  })

  test('model.safetensors holds every tensor by its name', async () => {
    const response = await coordinator.api('GET', `/api/runs/${run}/model.safetensors`)
    expect(response.status).toBe(200)
    expect(response.headers.get('content-disposition')).toBe(`attachment; filename="${run}.safetensors"`)
    const file = Buffer.from(await response.arrayBuffer())
    const headerBytes = Number(file.readBigUInt64LE(0))
    const header = JSON.parse(file.subarray(8, 8 + headerBytes).toString())
    const tensors = Object.keys(header).filter((name) => name !== '__metadata__')
    expect(tensors).toEqual(layout.slots.map(({ name }) => name))
    for (const { name, shape, offset, size } of layout.slots) {
      expect(header[name]).toEqual({ dtype: 'F32', shape, data_offsets: [4 * offset, 4 * (offset + size)] })
    }
    const data = file.subarray(8 + headerBytes)
    expect(data.equals(Buffer.from(weights.buffer, weights.byteOffset, weights.byteLength))).toBe(true)
  })

  test("tfjs' loadLayersModel reads model.json and its weights over HTTP, and predicts what the parameters say", async () => {
    await tf.setBackend('cpu')
    const requestInit = { headers: { authorization: `Bearer ${coordinator.token}` } }
    const address = `${coordinator.url}/api/runs/${run}/model.json`
    const model = (await loadLayersModel(tf.io.http(address, { requestInit, fetchFunc: fetch }))) as Sequential
    const loaded = model.getWeights().flatMap((tensor) => [...tensor.dataSync()])
    expect(Float32Array.from(loaded)).toEqual(weights)

    const pixels = Float32Array.from({ length: 784 }, (_, i) => (i % 7) / 7)
    const predicted = (model.predict(tf.tensor(pixels, [1, 28, 28, 1])) as tf.Tensor).dataSync()
    const [kernel, bias] = layout.slots
    const logits = Array.from({ length: 10 }, (_, j) =>
      pixels.reduce((sum, x, i) => sum + x * weights[kernel.offset + 10 * i + j], weights[bias.offset + j]),
    )
    const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0)
    logits.forEach((logit, j) => {
      expect(predicted[j]).toBeCloseTo(Math.exp(logit) / total, 4)
    })
    await expect(loadLayersModel(tf.io.http(address, { fetchFunc: fetch }))).rejects.toThrow(/401|Unauthorized|failed/)
    model.dispose()
  })
})
