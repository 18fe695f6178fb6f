/**
 * `npm run reproduce -- <row> --tabs N`: a row whose volunteers are tabs of a real browser, pressed as a person would.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { Result } from '../bench/reproduce/results.ts'
import { newFolder, removeFolders } from '../support/coordinator.ts'
import { startProgram } from '../support/processes.ts'

afterAll(removeFolders)

test('a row is measured with browser tabs, and written down by a name of its own', async () => {
  const data = newFolder()
  const options = ['lenet', '--quick', '--seeds', '1', '--tabs', '2', '--data', data]
  const program = startProgram('test/bench/reproduce/reproduce.ts', options)
  try {
    expect([await program.exit, program.errors()]).toEqual([0, expect.stringContaining('lenet-tabs seed-1: begins')])
  } finally {
    await program.end()
  }
  const result = JSON.parse(readFileSync(join(data, 'results', 'lenet-tabs.json'), 'utf8')) as Result
  expect(result.command).toBe('reproduce -- lenet --seeds 1 --tabs 2')
  const [{ machine, ...outcome }] = result.outcomes
  // 600 digits in batches of 128, twice, a half each: the last batch of an epoch is 88.
  expect(outcome).toMatchObject({ volunteers: 2, examples: 1200, updates: 20 })
  expect(machine).toMatch(/, tabs on (wasm|webgl|webgpu)$/)
}, 120_000)
