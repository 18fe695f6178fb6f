/**
 * Compiles AssemblyScript modules to WebAssembly and writes each as a TypeScript file that holds the module's bytes
 * in base64, so that it loads the same way in Node, in a web worker and in a test, with no fetch and no bundler plugin.
 *
 *     node shared/kernels/build.mjs [--force]
 *
 * A module is left alone while its output is newer than everything in the entries' folders and this file.
 */
import { mkdirSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '../..')

/** @type {{ entry: string, output: string, options: string[] }[]} paths from the repository's root */
const modules = [
  {
    entry: 'shared/kernels/assembly/index.ts',
    output: 'shared/kernels/wasm.ts',
    // One page at first: the coordinator holds one instance a range, and an instance grows to what it needs.
    options: ['--initialMemory', '1'],
  },
  {
    entry: 'client/volunteer/compute/kernels/assembly/index.ts',
    output: 'client/volunteer/compute/kernels/wasm.ts',
    // It works in place on the memory of tfjs' WASM backend, so it may hold no data and no runtime of its own.
    options: ['--importMemory', '--noExportMemory', '--use', 'abort='],
  },
]

const common = ['-O3', '--converge', '--noAssert', '--runtime', 'stub', '--enable', 'simd']

function changedAt(path) {
  return statSync(join(root, path), { throwIfNoEntry: false })?.mtimeMs ?? Number.NEGATIVE_INFINITY
}

function isFresh({ output }) {
  // One module may take a kernel from the other's folder.
  const sources = modules
    .map(({ entry }) => dirname(entry))
    .flatMap((folder) => readdirSync(join(root, folder), { recursive: true }).map((name) => join(folder, String(name))))
  const inputs = [...sources, relative(root, fileURLToPath(import.meta.url)), 'package.json']
  return changedAt(output) > Math.max(...inputs.map(changedAt))
}

/** The module's bytes; throws with the compiler's own words. */
async function compile({ entry, options }) {
  // Imported here because loading the compiler takes most of a second that an up-to-date build need not wait for.
  const { default: asc } = await import('assemblyscript/asc')
  let binary
  const { error, stderr } = await asc.main([entry, '--baseDir', root, '--outFile', 'out.wasm', ...common, ...options], {
    writeFile(name, contents) {
      if (name === 'out.wasm') binary = contents
    },
  })
  if (error || binary === undefined) throw new Error(`${entry} does not compile\n${stderr}`, { cause: error })
  return binary
}

for (const module of modules) {
  if (!process.argv.includes('--force') && isFresh(module)) continue
  const binary = await compile(module)
  const output = join(root, module.output)
  mkdirSync(dirname(output), { recursive: true })
  // Written beside and renamed: a test that starts meanwhile sees the old module or the new one, never half of one.
  const half = `${output}.${process.pid}`
  writeFileSync(
    half,
    `// Generated from ${dirname(module.entry)} by shared/kernels/build.mjs. Do not edit.\n` +
      `export const wasm =\n  '${Buffer.from(binary).toString('base64')}'\n`,
  )
  renameSync(half, output)
  console.log(`${module.output}: ${binary.length} bytes of WebAssembly`)
}
