// The script that the page loads: the AWS SDK for JavaScript, and the three operations that the
// tests use.

import { GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';

const PART_BYTES = 5 * 1024 * 1024;

export function client(endpoint, credentials, requestChecksumCalculation) {
  const settings = { region: 'us-east-1', forcePathStyle: true, maxAttempts: 1 };
  return new S3Client({ endpoint, credentials, requestChecksumCalculation, ...settings });
}

/** Bytes that differ between parts. */
export function noise(size, seed) {
  let state = seed;
  const words = new Uint32Array(Math.ceil(size / 4));
  for (let index = 0; index < words.length; index += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[index] = state;
  }
  return new Uint8Array(words.buffer, 0, size);
}

export async function put(s3, Bucket, Key, Body) {
  const { ETag } = await s3.send(new PutObjectCommand({ Bucket, Key, Body }));
  return ETag;
}

export async function get(s3, Bucket, Key, Range) {
  const { Body } = await s3.send(new GetObjectCommand({ Bucket, Key, Range }));
  return Body.transformToByteArray();
}

export async function uploadInParts(s3, Bucket, Key, bytes) {
  const params = { Bucket, Key, Body: new Blob([bytes]) };
  const upload = new Upload({ client: s3, params, partSize: PART_BYTES, queueSize: 4 });
  const { ETag } = await upload.done();
  return ETag;
}

/** A digest, to compare uploaded and downloaded content. */
export async function digest(bytes) {
  const hash = await crypto.subtle.digest('SHA-256', bytes);
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
