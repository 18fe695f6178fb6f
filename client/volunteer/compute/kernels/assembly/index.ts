export { matmul, scratchBytes } from './matmul'
