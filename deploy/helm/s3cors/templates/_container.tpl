{{/* The container, in a Deployment of its own or beside another's containers. */}}
{{- define "s3cors.container" -}}
name: s3cors
image: {{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args:
  - run
  - --config=/etc/s3cors/config/s3cors.toml
  {{- range .Values.args }}
  - {{ . | quote }}
  {{- end }}
env:
  - name: S3CORS_ADMIN
    value: "{{ .Values.address }}:{{ .Values.ports.admin }}"
  {{- if not (regexMatch "(?m)^\\s*\\[\\[\\s*listen\\s*\\]\\]" .Values.config) }}
  - name: S3CORS_LISTEN
    value: "{{ .Values.address }}:{{ .Values.ports.http }}"
  {{- end }}
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - name: http
    containerPort: {{ .Values.ports.http }}
  - name: admin
    containerPort: {{ .Values.ports.admin }}
# Half a minute for the start, which takes milliseconds unless the node is busy.
startupProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 1
  failureThreshold: 30
# 503 as soon as the pod is told to stop; there is no preStop hook to wait for.
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
  privileged: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
volumeMounts:
  # Folders, never a subPath: that one would keep the old file for ever.
  - name: s3cors-config
    mountPath: /etc/s3cors/config
    readOnly: true
  {{- if include "s3cors.hasBuckets" . }}
  - name: s3cors-buckets
    mountPath: /etc/s3cors/buckets
    readOnly: true
  {{- end }}
  {{- with .Values.volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The volumes that the container mounts. */}}
{{- define "s3cors.volumes" -}}
- name: s3cors-config
  configMap:
    name: {{ include "s3cors.configMapName" . }}
{{- if include "s3cors.hasBuckets" . }}
- name: s3cors-buckets
  configMap:
    name: {{ include "s3cors.bucketsConfigMapName" . }}
{{- end }}
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
A native sidecar: an init container that starts before the others and stops after them. For a
chart that has this one as its dependency `s3cors`, with `s3cors.standalone` false:

  initContainers:
    {{- include "s3cors.sidecar" .Subcharts.s3cors | nindent 4 }}
  volumes:
    {{- include "s3cors.volumes" .Subcharts.s3cors | nindent 4 }}
*/}}
{{- define "s3cors.sidecar" -}}
- restartPolicy: Always
  {{- include "s3cors.container" . | nindent 2 }}
{{- end -}}

{{- define "s3cors.podSecurityContext" -}}
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Longer than the drain, with time to spare. */}}
{{- define "s3cors.gracePeriod" -}}
{{- add .Values.drain.delaySeconds .Values.drain.deadlineSeconds 10 -}}
{{- end -}}
