/** Files of an operator's own that are gone, or hold other examples, when the coordinator comes back. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { ApiError, RunDetail } from '../../shared/api.ts'
import { newFolder, removeFolders, SMALL, startCoordinator } from '../support/coordinator.ts'

afterAll(removeFolders)

/** An IDX file of vectors of one number. */
const vectors = (...values: number[]) => Uint8Array.of(0, 0, 8, 2, 0, 0, 0, values.length, 0, 0, 0, 1, ...values)

test('[J8] the coordinator starts without them; the run waits, says for what, and goes on when they are back', async () => {
  const dataFolder = newFolder()
  const inputs = join(newFolder(), 'inputs')
  writeFileSync(inputs, vectors(5, 6))
  const first = await startCoordinator({ dataFolder })
  const { run } = await first.createRun({
    dataset: { name: 'idx', trainInputs: inputs, testInputs: inputs },
    model: { template: 'rbm', hidden: [2] },
    ...{ pretrain: { epochs: 1 }, stop: { epochs: 1 } },
  })
  const model = async (coordinator: typeof first): Promise<string> => {
    const response = await coordinator.api('GET', `/api/runs/${run}/machines.safetensors`)
    expect(response.status).toBe(200)
    return Buffer.from(await response.arrayBuffer()).toString('hex')
  }
  const before = await model(first)
  await first.stop()

  const held = readFileSync(inputs)
  for (const [change, says] of [
    [() => rmSync(inputs), `dataset.trainInputs: cannot read ${inputs}`],
    [() => writeFileSync(inputs, vectors(5, 7)), 'dataset: expected 2 training examples [1] of 1 classes with SHA-256'],
  ] as const) {
    change()
    const without = await startCoordinator({ dataFolder })
    const detail = (await (await without.api('GET', `/api/runs/${run}`)).json()) as RunDetail
    expect(detail).toMatchObject({ state: 'paused', reason: expect.stringContaining(says) })
    const refused = await without.api('POST', `/api/runs/${run}/resume`)
    expect([refused.status, ((await refused.json()) as ApiError).error]).toEqual([
      409,
      { code: 'wrong-state', message: expect.stringContaining(says) },
    ])
    expect(await model(without)).toEqual(before)
    // Others are none the worse for it.
    expect((await without.createRun(SMALL)).state).toBe('running')
    await without.stop()
  }

  writeFileSync(inputs, held)
  const back = await startCoordinator({ dataFolder })
  const waiting = (await (await back.api('GET', `/api/runs/${run}`)).json()) as RunDetail
  const resumed = await back.api('POST', `/api/runs/${run}/resume`)
  expect(waiting).toMatchObject({ state: 'paused', reason: 'its data were not there when the coordinator was started' })
  expect(await resumed.json()).toMatchObject({ state: 'running', reason: null })
  await back.stop()
})
