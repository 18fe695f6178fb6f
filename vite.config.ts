/**
 * Builds the pages to dist/: contribute.html, console.html, embed.html and demo.html with hashed files under
 * assets/, the site owners' script at the stable name embed.js, and tfjs' WebAssembly files under assets/tfjs/.
 *
 * `npx vite build` builds; `npx vite` serves the pages for development and passes API, blobs and sockets on to
 * CROWDGRAD_COORDINATOR (http://localhost:8080 when absent).
 */
import { createReadStream, readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { defineConfig, type Plugin, transformWithOxc } from 'vite'

const here = import.meta.dirname
const pages = join(here, 'client/pages')
const PAGES = ['contribute', 'console', 'embed', 'demo']
const loader = join(pages, 'embed/loader.ts')

/** Every visitor of every site that shows the widget pays for this one. */
const LOADER_LIMIT_BYTES = 3000

/** Compiles the widget's loader to dist/embed.js: one plain script that depends on nothing. */
function widgetLoader(): Plugin {
  return {
    name: 'crowdgrad:widget-loader',
    buildStart() {
      if (this.environment.mode === 'build') this.emitFile({ type: 'chunk', id: loader, fileName: 'embed.js' })
    },
    generateBundle(_options, bundle) {
      const script = bundle['embed.js']
      if (script?.type !== 'chunk') return
      if (script.imports.length + script.dynamicImports.length + script.exports.length > 0) {
        this.error('embed.js must stay a plain script: client/pages/embed/loader.ts may import types only')
      }
      const sizeBytes = Buffer.byteLength(script.code)
      if (sizeBytes > LOADER_LIMIT_BYTES)
        this.error(`embed.js has ${sizeBytes} bytes, expected at most ${LOADER_LIMIT_BYTES}`)
    },
    configureServer(server) {
      server.middlewares.use('/embed.js', async (_request, response) => {
        const { code } = await transformWithOxc(readFileSync(loader, 'utf8'), loader)
        response.setHeader('content-type', 'text/javascript').end(code)
      })
    },
  }
}

/** Puts tfjs' .wasm files at assets/tfjs/<their own name>: its loader takes a folder, so the names cannot be hashed. */
function tfjsBinaries(): Plugin {
  const folder = join(here, 'node_modules/@tensorflow/tfjs-backend-wasm/dist')
  return {
    name: 'crowdgrad:tfjs-binaries',
    generateBundle() {
      for (const name of readdirSync(folder).filter((file) => file.endsWith('.wasm'))) {
        this.emitFile({ type: 'asset', fileName: `assets/tfjs/${name}`, source: readFileSync(join(folder, name)) })
      }
    },
    configureServer(server) {
      server.middlewares.use('/assets/tfjs/', (request, response) => {
        response.setHeader('content-type', 'application/wasm')
        createReadStream(join(folder, basename(request.url ?? ''))).pipe(response)
      })
    },
  }
}

const coordinator = process.env.CROWDGRAD_COORDINATOR ?? 'http://localhost:8080'

export default defineConfig({
  root: pages,
  publicDir: false,
  plugins: [widgetLoader(), tfjsBinaries()],
  build: {
    outDir: join(here, 'dist'),
    emptyOutDir: true,
    // A data: address would need a hole in the pages' content security policy.
    assetsInlineLimit: 0,
    rolldownOptions: { input: Object.fromEntries(PAGES.map((page) => [page, join(pages, `${page}.html`)])) },
  },
  worker: { format: 'es' },
  server: {
    fs: { allow: [here] },
    proxy: {
      '/api': coordinator,
      '/blobs': coordinator,
      '/socket.io': { target: coordinator, ws: true },
    },
  },
})
