import { openEngine, chooseEngine } from '/work/main/client/volunteer/compute/engines.ts'
import { dawn } from '/work/main/client/volunteer/compute/dawn.ts'
import { buildModel } from '/work/main/shared/models.ts'
import { initialParameters } from '/work/main/shared/layout.ts'
import * as tf from '@tensorflow/tfjs-core'
const which = process.argv[2] as any
const spec = process.argv[3]==='lenet' ? {template:'lenet',activation:'relu'} : {template:'mlp',hidden:[500,500,2000],activation:'relu'}
const B = +(process.argv[4] ?? 100)
const e = await openEngine(which, which==='webgpu'?{gpu: await dawn()}:{})
console.log(e.backend, e.device)
const m = buildModel(spec as any, [28,28,1], 10)
const t = await e.load(m)
const p = initialParameters(m.layout, 1)
const x = new Float32Array(B*784).map((_, i)=> ((i*7919)%1000)/1000), y = new Uint8Array(B).map((_, i)=>i%10)
for (let r=0;r<8;r++){ const t0=performance.now(); t.begin(p); t.step(x,y,B,0.01); const f=await t.finish(); console.log((performance.now()-t0).toFixed(1), f.lossSum, f.correct, f.gradient!.reduce((s,v)=>s+Math.abs(v),0), tf.memory().numTensors) }
