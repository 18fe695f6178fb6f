/** Where the own volunteer's thread begins: Node 20 reads no TypeScript, so tsx is registered first. */
import { register } from 'tsx/esm/api'

register()
await import('../client/volunteer/headless.ts')
